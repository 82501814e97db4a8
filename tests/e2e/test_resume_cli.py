"""Resume runs from the command line, in real processes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from command_line import COMMAND, refused, run, run_process
from napari_sslseg.core.demo.phantom.patient import write_dataset
from napari_sslseg.core.scans.formats.nifti import write_nifti
from patience import LIMIT
from training_process import events, scan

ONE = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def cut(out, how, *arguments):
    """Start a command and send it a signal as soon as a state is saved."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, text=True, env=ONE
    )
    deadline = time.monotonic() + 120
    while not (out / "run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    # On a slow machine no state is saved within this time; the run then starts again.
    soon = time.monotonic() + 2
    while not (out / "states").exists() and time.monotonic() < soon:
        time.sleep(0.02)
    process.send_signal(how)
    _, stderr = process.communicate(timeout=LIMIT)
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
def test_a_resumed_run_ends_with_the_same_weights(data, tmp_path, kind, how):
    whole, out = tmp_path / "whole", tmp_path / "cut"
    done = run_process(*arguments(kind, data, whole), env=ONE)
    assert done.returncode == 0, done.stderr
    code, stderr = cut(out, how, *arguments(kind, data, out))
    assert code == (130 if how == signal.SIGINT else -signal.SIGKILL), stderr
    short = list(arguments(kind, data, out))
    short = short[: short.index("--out") + 2]
    assert refused(run(*short, "--resume", "--steps", 50, "--seed", 1), "--steps", "--seed")
    done = run_process(*short, "--resume", "--json", env=ONE)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["status"] == "finished"
    assert record["slices"] == json.loads((whole / "run.json").read_text())["slices"]
    for name in ("last.safetensors", "metrics.csv"):
        assert (whole / name).read_bytes() == (out / name).read_bytes(), name
    done = run(*short, "--resume")
    assert done.returncode == 0
    assert (whole / "last.safetensors").read_bytes() == (out / "last.safetensors").read_bytes()


def test_resume_without_a_run(data, tmp_path):
    done = run("pretrain", data / "images", "--out", tmp_path / "o", "--resume")
    assert refused(done, str(tmp_path / "o"))
    assert not (tmp_path / "o").exists()


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    """A tiny run, and a folder with 40 tiny scans."""
    folder = tmp_path_factory.mktemp("finetuned")
    list(events("finetune", folder / "run", 1))
    for number in range(40):
        volume, _ = scan(number)
        source = volume.geometry.to_source(volume.data)
        (folder / "scans").mkdir(exist_ok=True)
        write_nifti(source, volume.geometry, None, folder / "scans" / f"case{number:02}.nii.gz")
    return folder / "run", folder / "scans"


def labels(out):
    return {path.name: path.read_bytes() for path in out.glob("*.nii.gz")}


def test_a_killed_prediction_goes_on_where_it_stopped(finetuned, tmp_path):
    arguments = ("predict", *finetuned, "--out", tmp_path / "out", "--device", "cpu")
    process = subprocess.Popen([*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, env=ONE)
    deadline = time.monotonic() + 120
    while len(labels(tmp_path / "out")) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.communicate()
    before = labels(tmp_path / "out")
    assert 0 < len(before) < 40
    # What is not complete is not taken for a prediction.
    first = tmp_path / "out" / min(before)
    assert refused(run(*arguments), first.name, "--resume")
    assert refused(run(*arguments, "--resume", "--overwrite"), "leave one out")
    assert refused(run(*arguments, "--resume", "--least-part", "0.1"), "other settings", "least")
    first.write_bytes(before[first.name] + b" corrected by hand")
    assert refused(run(*arguments, "--resume"), first.name, "changed since")
    assert first.read_bytes().endswith(b"hand")
    first.unlink()
    foreign = tmp_path / "out" / "case39.nii.gz"
    foreign.write_bytes(before[first.name])
    assert refused(run(*arguments, "--resume"), foreign.name, "not written by this")
    foreign.unlink()
    done = run(*arguments, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert f"{len(before) - 1} of 40 scans are segmented already" in done.stderr
    assert len(json.loads(done.stdout)["predictions"]) == 40
    assert before.items() <= labels(tmp_path / "out").items()
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    whole = tmp_path / "whole"
    assert run("predict", *finetuned, "--out", whole, "--device", "cpu").returncode == 0
    assert labels(whole) == labels(tmp_path / "out")


def test_a_file_that_appears_during_a_prediction_is_not_replaced(finetuned, tmp_path):
    out = tmp_path / "out"
    arguments = ("predict", *finetuned, "--out", out, "--device", "cpu")
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, env=ONE, text=True
    )
    deadline = time.monotonic() + 120
    while not labels(out) and time.monotonic() < deadline:
        time.sleep(0.001)
    mine = out / "case39.nii.gz"
    mine.write_bytes(b"mine")
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    assert mine.name in errors
    assert mine.read_bytes() == b"mine"
    mine.unlink()
    assert run(*arguments, "--resume").returncode == 0
    assert len(labels(out)) == 40


def test_a_killed_export_leaves_nothing_that_stays(tmp_path):
    write_dataset(tmp_path, 1, "MR", seed=1)
    (image,) = (tmp_path / "images").iterdir()
    labels = tmp_path / "labels" / image.name
    code = (
        "import os, signal, sys\n"
        "from napari_sslseg.core.scans.formats import nifti\n"
        "def killed(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "nifti.nib.save = killed\n"
        "from napari_sslseg.cli import main\n"
        "main()\n"
    )
    out = tmp_path / "out" / "labels.nii.gz"
    arguments = ["export", labels, "--like", image, "--out", out]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    (left,) = out.parent.glob(".*")
    theirs = out.parent / ".napari-sslseg-notes.txt"
    theirs.write_text("mine")
    assert run(*arguments).returncode == 0
    assert not left.exists()
    assert list(out.parent.glob(".*")) == [theirs]
    assert out.exists()
