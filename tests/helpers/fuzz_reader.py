"""Read damaged copies of a file and report the outcome of each.

The test runs this in a separate process, so that a reader that crashes or exhausts the memory does
not end the test. Prints a JSON line before and after each copy.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.scans.labels import load_labels
from napari_sslseg.core.scans.volume import load_volume


def mutate(data: bytes, number: int, rng: np.random.Generator) -> tuple[str, bytes]:
    """Truncate, flip bits in the header or anywhere, or overwrite a run of bytes."""
    kind = ("cut", "header", "bits", "run")[number % 4]
    changed = np.frombuffer(data, np.uint8).copy()
    if kind == "cut":
        return kind, data[: int(rng.integers(0, len(data)))]
    if kind == "run":
        start = int(rng.integers(0, len(changed)))
        length = int(rng.integers(1, 64))
        changed[start : start + length] = rng.integers(0, 256)
    else:
        reach = min(len(changed), 512) if kind == "header" else len(changed)
        for _ in range(int(rng.integers(1, 5))):
            changed[rng.integers(0, reach)] ^= np.uint8(1 << rng.integers(0, 8))
    return kind, changed.tobytes()


def read(path: Path, like: Path | None) -> np.ndarray:
    if like is None:
        return load_volume(path, modality="MR").data
    return load_labels(path, like=load_volume(like, modality="MR")).data


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    warnings.simplefilter("ignore")
    folder = Path(plan["folder"])
    like = Path(plan["like"]) if plan["like"] else None
    source = Path(plan["file"])
    whole = source.read_bytes()
    target = folder / source.name
    opened = Path(plan["open"])
    original = read(opened, like)
    for number in range(plan["mutations"]):
        rng = np.random.default_rng([plan["seed"], number])
        kind, data = mutate(whole, number, rng)
        target.write_bytes(data)
        print(json.dumps({"start": number, "kind": kind}), flush=True)
        start = time.perf_counter()
        try:
            values = read(opened, like)
        except SslsegError as error:
            message = str(error)
            outcome = "refused" if "\n" not in message else f"not one line: {message!r}"
        else:
            same = values.shape == original.shape and np.array_equal(values, original)
            outcome = "same" if same else "other"
        seconds = time.perf_counter() - start
        print(json.dumps({"end": number, "outcome": outcome, "seconds": seconds}), flush=True)
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        print(json.dumps({"peak_kib": int(peak.split()[1])}), flush=True)


if __name__ == "__main__":
    main()
