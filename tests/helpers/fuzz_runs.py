"""Open damaged and hostile copies of a run, one after another, and report each result.

The test runs it as a process with a memory limit: a copy that needs more memory fails with an
error that is not an SslsegError. Prints a JSON line for each copy.
"""

import copy
import json
import resource
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.results.predict import load_segmenter
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings
from napari_sslseg.core.stages.init_from import load_start, resolve_settings

ROOM = 3 * 2**29
NASTY = [
    None, True, -1, 0, 3, 2**31, 2**63, 10**30, 0.5, 1e308, float("nan"), float("inf"), "", "é",
    "../../etc/passwd", "/etc/passwd", "\x1b[2J\n", "\ud800", "a" * 100_000, [], {}, [[]] * 1000,
    [2048] * 5, [2048] * 7, [4096, 4096], [8, 16, 32, 64, 128], {"kind": "dynunet3d"},
    {"kind": "dense3d", "layers": [64] * 6, "growth": [2048] * 6, "decoder_widths": [2048] * 5},
    {"kind": "unet2d", "widths": [2048] * 5}, {"kind": "unet2d", "widths": [2048, 1]},
]  # fmt: skip


def places(value, here=()):
    """Yield every place of a record, as the keys that lead to it."""
    yield here
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, part in value.items() if isinstance(value, dict) else ():
        yield from places(part, (*here, key))


def mutate_record(record, rng):
    """Replace a value, add or delete a key, or damage the text."""
    kind = rng.choice(["nasty", "nasty", "nasty", "lose", "add", "cut", "bits", "deep", "twice"])
    text = json.dumps(record)
    if kind == "cut":
        return text[: rng.integers(0, len(text))].encode()
    if kind == "deep":
        return (text[:-1] + ', "x": ' + "[" * int(rng.choice([40, 900, 200_000]))).encode()
    if kind == "twice":
        return ('{"kind": "pretrain", ' + text[1:]).encode()
    if kind == "bits":
        return flipped(text.encode(), rng, len(text))
    changed = copy.deepcopy(record)
    spots = list(places(changed))
    # Settings and top-level values have the most effect, and lists of scans are long.
    wanted = [s for s in spots if s and (s[0] in ("settings", "task") or len(s) == 1)]
    spot = wanted[rng.integers(len(wanted))]
    inner = changed
    for key in spot[:-1]:
        inner = inner[key]
    if kind == "lose":
        del inner[spot[-1]]
    elif kind == "add" and isinstance(inner, dict):
        inner["\x1b[2Jnew"] = 1
    else:
        inner[spot[-1]] = NASTY[int(rng.integers(len(NASTY)))]
    return json.dumps(changed).encode()


def flipped(data, rng, reach):
    changed = np.frombuffer(data, np.uint8).copy()
    for _ in range(int(rng.integers(1, 5))):
        changed[rng.integers(0, reach)] ^= np.uint8(1 << rng.integers(0, 8))
    return changed.tobytes()


def mutate_weights(data, rng):
    """Damage the bytes, or write a header with wrong shapes, types, offsets or names."""
    kind = rng.choice(
        ["cut", "bits", "values", "length", "longer", "entry", "entry", "entry", "entry"]
    )
    (length,) = struct.unpack("<Q", data[:8])
    if kind == "cut":
        return data[: rng.integers(0, len(data))]
    if kind == "bits":
        return flipped(data, rng, 8 + length)
    if kind == "values":
        return flipped(data, rng, len(data))
    if kind == "longer":
        return data + b"\0" * int(rng.integers(1, 100))
    if kind == "length":
        return struct.pack("<Q", int(rng.choice([0, 7, 2**20, 2**40, 2**62]))) + data[8:]
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    entry = header[names[rng.integers(len(names))]]
    field = rng.choice(["dtype", "shape", "data_offsets", "name", "lose", "terabytes", "all"])
    if field == "dtype":
        entry["dtype"] = rng.choice(["F64", "I8", "BOOL", "F16", "I64", "C64", "X" * 1000])
    elif field == "shape":
        wrong = [[], [0], [-1], [2**62, 2**62], [1.5], ["8"], None, [1] * 3000]
        entry["shape"] = wrong[rng.integers(len(wrong))]
    elif field == "data_offsets":
        wrong = [[0, 0], [0, 2**50], [2**50, 2**51], [8, 4], [0], None, [-8, 0]]
        entry["data_offsets"] = wrong[rng.integers(len(wrong))]
    elif field == "terabytes":
        entry["shape"], entry["data_offsets"] = [2**40], [0, 2**42]
    elif field == "all":
        for name in names:
            header[name]["shape"] = [2**40]
    else:
        name = names[rng.integers(len(names))]
        moved = header.pop(name)
        if field == "name":
            header["../\x1b[2J" + name] = moved
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def open_run(folder, volume):
    """Use a run as a user does: segment with it and start from it."""
    run = Run.open(folder)
    if run.kind == "finetune":
        segmenter = load_segmenter(run, "cpu")
        size = (32, 32) if segmenter.network.stride <= 32 else (128, 128)
        with torch.inference_mode():
            segmenter.network(torch.zeros(1, segmenter.preprocessing.channels, *size))
        settings = run.settings(FinetuneSettings)
    else:
        run.task()
        settings = run.settings(PretrainSettings)
    again = type(settings)(training=settings.training)
    taken = resolve_settings(again, run, volume, "MR")
    from napari_sslseg.core.networks.build import make_network

    channels = taken.preprocessing.channels
    list(load_start(run, make_network(taken.network, channels, 1), "encoder+decoder"))


def limit_memory():
    status = Path("/proc/self/status").read_text().splitlines()
    used = int(next(line for line in status if line.startswith("VmSize")).split()[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))


def main():
    warnings.simplefilter("ignore")
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    record_path = folder / "run.json"
    weights_path = Run.open(folder).weights
    original, weights = record_path.read_bytes(), weights_path.read_bytes()
    record = json.loads(original)
    record["scans"] = record["scans"][:2]
    open_run(folder, None)
    limit_memory()
    for index in range(number):
        rng = np.random.default_rng([len(record["kind"]), index])
        of_record = index % 2 == 0
        target = record_path if of_record else weights_path
        target.write_bytes(
            mutate_record(record, rng) if of_record else mutate_weights(weights, rng)
        )
        try:
            open_run(folder, None)
            line = {"outcome": "opened"}
        except SslsegError as error:
            message = str(error)
            shown = "\n" not in message and "\x1b" not in message and len(message) < 1000
            line = {"outcome": "refused" if shown else "not plain", "message": message[:1000]}
        print(json.dumps({"copy": index, "record": of_record, **line}), flush=True)
        target.write_bytes(original if of_record else weights)


if __name__ == "__main__":
    main()
