"""An untrusted run folder opens or is refused in one line, without any other effect."""

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_sslseg.core.common.errors import CheckpointError, GeometryError
from napari_sslseg.core.common.safe_json import parse_json
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.demo.phantom.patient import write_dataset
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.networks.size_limit import planned, planned_network, tensor_shapes
from napari_sslseg.core.results.predict import load_segmenter
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.runs.weights.checkpoints import load_weights
from napari_sslseg.core.samples.placement import placement
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.matching.pair_scans import pair_scans
from napari_sslseg.core.settings.networks import Network, named_network
from napari_sslseg.core.settings.preprocessing import Preprocessing
from napari_sslseg.core.settings.pretext.registry import TASKS, make_task
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.stages.finetune import finetune
from napari_sslseg.core.stages.init_from import resolve_settings
from napari_sslseg.core.stages.pretrain import pretrain
from paths import HELPERS

COPIES = 100
TINY = Network.preset("tiny")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a real pretraining run and a real fine-tuning run."""
    folder = tmp_path_factory.mktemp("runs")
    write_dataset(folder / "data", 2, "MR", seed=3)
    short = Training(steps=2, batch_size=2)
    before = pretrain(
        folder / "data" / "images",
        out=folder / "pretrain",
        settings=PretrainSettings(network=TINY, training=short),
        device="cpu",
    )
    pairs = pair_scans(folder / "data" / "images", folder / "data" / "labels")
    finetune(
        pairs,
        init=before,
        out=folder / "finetune",
        settings=FinetuneSettings(training=short),
        device="cpu",
    )
    return folder


@pytest.fixture
def run(runs, tmp_path):
    """A copy of the fine-tuning run that a test may change."""
    return shutil.copytree(runs / "finetune", tmp_path / "run")


@pytest.mark.parametrize("kind", ["pretrain", pytest.param("finetune", marks=pytest.mark.slow)])
def test_mutated_runs_open_or_are_refused(runs, tmp_path, kind):
    folder = shutil.copytree(runs / kind, tmp_path / kind)
    done = subprocess.run(
        [sys.executable, HELPERS / "fuzz_runs.py", folder, str(COPIES)],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, f"{lines[-1:]}: {done.stderr[-3000:]}"
    assert len(lines) == COPIES
    assert not [line for line in lines if line["outcome"] == "not plain"]
    for of_record in (True, False):
        outcomes = [line["outcome"] for line in lines if line["record"] == of_record]
        assert outcomes.count("refused") > COPIES / 10
        assert of_record is False or "opened" in outcomes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"hello", "JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b"[1, 2]", "not a record"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 40 + b"]" * 40, "nested too deeply"),
        (b'{"format": NaN}', "NaN"),
        (b'{"format": -Infinity}', "Infinity"),
        (b'{"format": 1e999}', "too large"),
        (b'{"format": 1e308}', "too large"),
        (b'{"format": ' + b"9" * 5000 + b"}", "too large"),
        (b'{"kind": 1, "kind": 2}', "twice"),
        (b"[" + b"0," * 2_600_000 + b"0]", "more than 2,500,000 values"),
        (b" " * (65 * 2**20), "larger than 64 MiB"),
        (b'"\\ud800"', "Unicode"),
        (b'{"format": true, "kind": "finetune", "settings": {}}', "format"),
        (b'{"format": 1, "kind": "\\u001b[2J", "settings": {}}', "kind"),
        (b'{"format": 1, "kind": "finetune"}', "settings"),
        (b'{"format": 1, "kind": "finetune", "settings": {}, "scans": 3}', "scans"),
        (b'{"format": 1, "kind": "finetune", "settings": {}, "status": ["x"]}', "status"),
        (b'{"format": 1, "kind": "finetune", "settings": {}, "resumed": 5}', "resumed"),
        (b'{"format": 1, "kind": "finetune", "settings": {}, "threads": 1000000000000}', "threads"),
        (b'{"format": 1, "kind": "finetune", "settings": {}, "threads": 0}', "threads"),
        (b'{"format": 1, "kind": "finetune", "settings": {}, "processes": "x"}', "processes"),
        (b'{"format": 1, "kind": "finetune", "settings": {}, "start": {"folder": 3}}', "start"),
    ],
)
def test_a_hostile_record_is_refused_in_one_line(tmp_path, text, reason):
    (tmp_path / "run.json").write_bytes(text)
    start = time.process_time()
    with pytest.raises(CheckpointError, match=reason) as caught:
        Run.open(tmp_path)
    assert time.process_time() - start < 10
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "is damaged" in message
    assert "\n" not in message
    assert len(message) < 500


def change_settings(run, **changes):
    record = json.loads((run / "run.json").read_text())
    record["settings"] |= changes
    (run / "run.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"network": {"kind": "unet2d", "widths": [2048] * 5}}, "793 million parameters"),
        ({"network": {"kind": "dynunet3d"}}, "takes volumes, not slices"),
        ({"network": {"kind": "unet2d", "widths": [8, 16, 33]}}, "do not fit the network"),
        ({"network": {"kind": "unet2d", "widths": [10**12, 1]}}, "widths must lie within"),
        ({"classes": list(range(1, 400))}, "classes"),
        ({"classes": [1]}, "do not fit the network"),
        ({"unknown": 1}, "unknown"),
        ({"\x1b[2J" + "x" * 9999: 1}, r"\\x1b"),
    ],
)
def test_settings_that_do_not_fit_the_weights_are_refused(run, changes, reason):
    change_settings(run, **changes)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_segmenter(run, "cpu")
    message = str(caught.value)
    assert "\x1b" not in message
    assert len(message) < 600


def test_a_start_of_the_wrong_size_is_refused(run):
    change_settings(run, network={"kind": "unet2d", "widths": [2048] * 5})
    with pytest.raises(CheckpointError, match="million parameters"):
        resolve_settings(FinetuneSettings(), Run.open(run), None, "MR")


def test_a_start_with_another_encoder_is_refused(run):
    path = run / "last.safetensors"
    weights = load_file(path)
    weights["encoder.levels.9.conv.weight"] = torch.zeros(3)
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=r"levels\.9"):
        resolve_settings(FinetuneSettings(), Run.open(run), None, "MR")


def test_no_path_is_read_from_a_record(run, tmp_path):
    record = json.loads((run / "run.json").read_text())
    record |= {"init": "../../secret", "scans": ["/etc/passwd", "..\\..\\x"], "weights": "/etc/x"}
    (run / "run.json").write_text(json.dumps(record))
    opened = Run.open(run)
    assert opened.weights.parent == run
    assert load_segmenter(opened, "cpu").classes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_load(run, dtype):
    path = run / "last.safetensors"
    weights = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    save_file(weights, path)
    network = load_segmenter(run, "cpu").network
    assert network.state_dict()["output.bias"].dtype == torch.float32
    assert torch.equal(network.state_dict()["output.bias"], weights["output.bias"].float())


@pytest.mark.parametrize("dtype", [torch.float64, torch.int8, torch.bool, torch.int64])
def test_weights_of_other_types_are_refused(run, dtype):
    path = run / "last.safetensors"
    weights = load_file(path)
    save_file(weights | {"output.bias": weights["output.bias"].to(dtype)}, path)
    with pytest.raises(CheckpointError, match=r"output\.bias"):
        load_segmenter(run, "cpu")


def test_weights_with_nan_are_refused(run):
    path = run / "last.safetensors"
    weights = load_file(path)
    weights["output.bias"][0] = float("nan")
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=r"output\.bias"):
        load_segmenter(run, "cpu")


def test_a_header_that_claims_terabytes_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"\0" * 100)
    with pytest.raises(CheckpointError, match=r"a\.safetensors"):
        load_weights(path)


def test_a_pickle_in_place_of_the_weights_is_not_executed(run, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"output.bias": Trap()}, run / "last.safetensors")
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        load_segmenter(run, "cpu")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("text", ["a,b\n1,x\n", "a\n1,2,3\n", "a\n\xff", "\0" * 200_000])
def test_damaged_metrics_are_refused(run, text):
    (run / "metrics.csv").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"metrics\.csv is damaged"):
        print(Run.open(run).metrics())


def test_planning_a_network_takes_no_memory_and_no_random_numbers():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    plan = planned_network(TINY, 1, 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(weight.is_meta for weight in plan.parameters())
    assert tensor_shapes(plan) == tensor_shapes(make_network(TINY, 1, 3))


@pytest.mark.parametrize("name", TASKS)
def test_networks_with_the_heads_of_tasks_can_be_planned(name):
    dimensions = 2 if 2 in TASKS[name].dimensions else 3
    size = (64,) * dimensions
    network = named_network("tiny" if dimensions == 2 else "dense3d")
    runtime = make_task(name, size).build(size)

    def build():
        return runtime.wrap(make_network(network, 1, runtime.output_channels(1), output_kernel=3))

    assert tensor_shapes(planned(build, name)) == tensor_shapes(build())


def test_a_spacing_that_needs_too_much_memory_is_refused():
    geometry = Geometry(np.eye(4), (400, 400, 400))
    with pytest.raises(GeometryError, match=r"spacing of 0\.05"):
        placement(geometry, Preprocessing(spacing=0.05))


def test_control_characters_are_printed_as_escapes():
    assert printable("a\x1b[31m\u202eb\r\n") == r"a\x1b[31m\u202eb\r\n"
    assert printable("Größe – 3 × 3 µm, 日本") == "Größe – 3 × 3 µm, 日本"
    assert printable("x" * 50, 10) == "x" * 10 + "…"


def test_valid_json_is_read():
    assert parse_json(b'{"a": [1, -2.5e3, null, true, "\\u00e9"]}') == {
        "a": [1, -2500.0, None, True, "é"]
    }
