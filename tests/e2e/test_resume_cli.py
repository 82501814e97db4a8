"""Going on with runs from the command line, in real processes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from napari_sslseg.core.demo.phantom.patient import write_dataset

COMMAND = [sys.executable, "-c", "from napari_sslseg.cli.app import main; main()"]
ONE = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def run(*arguments):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=280, env=ONE
    )


def cut(out, how, *arguments):
    """Start a command and end it by a signal, as soon as a state is there."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, text=True, env=ONE
    )
    deadline = time.monotonic() + 120
    while not (out / "run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    # On a slow machine no state is written so soon: then the run begins anew.
    soon = time.monotonic() + 2
    while not (out / "states").exists() and time.monotonic() < soon:
        time.sleep(0.02)
    process.send_signal(how)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_dataset(folder, 4, "MR", seed=1)
    return folder


def arguments(kind, data, out):
    common = ("--out", out, "--steps", 80, "--batch-size", 4, "--network", "tiny")
    if kind == "pretrain":
        return ("pretrain", data / "images", *common)
    folders = ("--images", data / "images", "--labels", data / "labels")
    annotated = data / "annotated.json"
    names = sorted(path.name.removesuffix(".nii.gz") for path in (data / "images").iterdir())
    annotated.write_text(json.dumps({name: [10, 12, 14] for name in names[:3]}))
    more = ("--annotated", annotated, "--validation-share", 0.4)
    return ("finetune", *folders, *common, *more)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("pretrain", signal.SIGKILL),
        ("finetune", signal.SIGINT),
    ],
)
@pytest.mark.slow
def test_a_run_goes_on_to_the_same_weights(data, tmp_path, kind, how):
    whole, out = tmp_path / "whole", tmp_path / "cut"
    done = run(*arguments(kind, data, whole))
    assert done.returncode == 0, done.stderr
    code, stderr = cut(out, how, *arguments(kind, data, out))
    assert code == (130 if how == signal.SIGINT else -signal.SIGKILL), stderr
    short = list(arguments(kind, data, out))
    short = short[: short.index("--out") + 2]
    refused = run(*short, "--resume", "--steps", 50)
    assert refused.returncode == 2
    assert "goes on by its own settings" in refused.stderr
    done = run(*short, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert "Going on with the run" in done.stderr or "begins at step 1" in done.stderr
    record = json.loads(done.stdout)
    assert record["status"] == "finished"
    assert record["slices"] == json.loads((whole / "run.json").read_text())["slices"]
    for name in ("last.safetensors", "metrics.csv"):
        assert (whole / name).read_bytes() == (out / name).read_bytes(), name
    done = run(*short, "--resume")
    assert done.returncode == 0
    assert "finished already" in done.stderr


def test_no_run_to_go_on_with(data, tmp_path):
    done = run("pretrain", data / "images", "--out", tmp_path / "o", "--resume")
    assert done.returncode == 2
    assert "does not exist" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "o").exists()
