"""Run folders and the files of others: nothing is deleted, and no two runs are mixed."""

import json
import os
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from command_line import refused, run as run_command
from napari_sslseg.core.common.atomic import MARKER, remove_leftovers, write_text
from napari_sslseg.core.common.errors import LostFolderError, StorageError
from napari_sslseg.core.common.events import Done, Step, StopFlag
from napari_sslseg.core.common.lock import run_lock
from napari_sslseg.core.demo.demo import iter_demo
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.runs.run_files import claim
from napari_sslseg.core.runs.weights.import_weights import import_weights
from paths import HELPERS
from small_scans import write_small_scans
from training_process import events

pytestmark = pytest.mark.usefixtures("one_thread")
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows does not remove folders in use")
NAME = ".napari-sslseg-0123456789abcdef"


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the only copy of {name}")


OF_OTHERS = (
    ".vscode-insiders/settings.json",
    ".npm-packages/bin/tool",
    ".labels-abcdefgh.nii.gz",
    ".check",
    "best.safetensors",
    "last.json",
    "metrics.csv",
    "states/0000000001.safetensors",
    "slices/scan.nii.gz",
    f"slices/{'0' * 32}/scan.nii.gz",
    "first-stage/notes.txt",
    "run.lock",
    "run.json",
    "preset.json",
    f"{NAME}/labels.nii.gz",
    "scans/a.nii.gz",
)


@pytest.mark.parametrize("name", OF_OTHERS)
def test_a_folder_with_files_of_others_is_refused(tmp_path, name):
    put(tmp_path, name)
    before = contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(StorageError, match=r"choose (another|a new)"):
            list(events("pretrain", tmp_path, overwrite=overwrite))
        assert contents(tmp_path) == before


def test_the_command_line_refuses_the_working_folder(tmp_path, monkeypatch):
    work = tmp_path / "work"
    put(work, *OF_OTHERS[:8])
    scans, before = write_small_scans(tmp_path / "scans", 1), contents(work)
    monkeypatch.chdir(work)
    assert refused(run_command("pretrain", scans, "--out", "."), "not empty", "empty folder")
    assert refused(run_command("demo", "--out", "."), "not empty", "empty folder")
    assert contents(work) == before


def test_only_files_of_the_run_are_overwritten(tmp_path):
    list(events("pretrain", tmp_path, 2))
    put(tmp_path, "notes.txt", ".vscode-insiders/x", "states/mine.pt", "slices/mine/a.npy")
    put(tmp_path, f"{NAME}/mine.txt", f"states/{NAME[1:]}.safetensors")
    mine = {name: value for name, value in contents(tmp_path).items() if "mine" in name}
    for left in (tmp_path / f"{NAME[:-1]}0", tmp_path / "states" / f"{NAME[:-1]}1"):
        put(left, MARKER, "images.raw")
    put(tmp_path, f"states/{NAME}.safetensors")
    list(events("pretrain", tmp_path, 1, overwrite=True))
    after = contents(tmp_path)
    assert mine.items() <= after.items()
    assert {"notes.txt", ".vscode-insiders/x"} <= set(after)
    assert not [name for name in after if "images.raw" in name or name.endswith(f"{NAME}.safete")]
    assert json.loads((tmp_path / "last.json").read_text())["step"] == 1


def test_a_run_that_ended_before_its_record_may_be_started_again(tmp_path):
    store = tmp_path / "slices" / ("0" * 32)
    put(store, "index.json", "images.raw")
    put(tmp_path, ".DS_Store", f"{NAME}.json", f"slices/{NAME}/{MARKER}")
    (tmp_path / "run.lock").write_text("123")
    claim(tmp_path)
    put(store, "mine.txt")
    with pytest.raises(StorageError, match="not empty"):
        claim(tmp_path)


@POSIX
def test_files_that_another_process_writes_are_not_leftovers(tmp_path):
    code = (
        "import sys, time\n"
        "from napari_sslseg.core.common.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]) as path:\n"
        "    print(path, flush=True)\n"
        "    time.sleep(60)\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "a.nii.gz"], stdout=subprocess.PIPE, text=True
    )
    try:
        other.stdout.readline()
        remove_leftovers(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        other.kill()
        other.wait()
    remove_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_demonstration_replaces_only_its_own_files(tmp_path):
    put(tmp_path, "runs/pretrain/run.json", "report.json")
    before = contents(tmp_path)
    with pytest.raises(StorageError, match="not the folder of a demonstration"):
        next(iter_demo(out=tmp_path))
    assert contents(tmp_path) == before
    write_text(tmp_path / "demo.json", json.dumps({"demonstration": 1}))
    next(iter_demo(out=tmp_path))


def test_a_demonstration_with_predictions_of_other_scans_is_refused_before_training(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    write_small_scans(data / "images", 3)
    (data / "labels").mkdir()
    for path in (data / "images").iterdir():
        scan = nib.load(path)
        labels = np.ones(scan.shape, np.uint8)
        nib.save(nib.Nifti1Image(labels, scan.affine, scan.header), data / "labels" / path.name)
    (data / "classes.json").write_text('{"1": "liver"}')
    put(out, "predictions/self-trained/stranger.nii.gz")
    write_text(out / "demo.json", json.dumps({"demonstration": 1}))
    with pytest.raises(StorageError, match="other scans, such as stranger"):
        next(iter_demo(data, out=out))
    (out / "predictions/self-trained/stranger.nii.gz").unlink()
    (out / "predictions/self-trained/classes.json").write_text('{"1": "spleen"}')
    before = contents(out)
    with pytest.raises(StorageError, match="other names of classes"):
        next(iter_demo(data, out=out))
    assert contents(out) == before
    (out / "predictions/self-trained/classes.json").write_text('{"1": "liver"}')
    assert "patient" in next(iter_demo(data, out=out)).text


# Folders that are removed or moved while a process works in them.

TRAIN = [sys.executable, "-W", "ignore", HELPERS / "training_process.py", "pretrain"]


def start(out, step, **environment):
    """Start a long run in another process and wait for a step."""
    process = subprocess.Popen(
        [*TRAIN, out, "1000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith(f"Step(step={step},"):
            return process
    raise AssertionError(process.stderr.read())


def remove(folder):
    """Remove a folder in which another process may write at this moment."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def stop_after(out, count, **options):
    """Train for some steps; returns the first step and the result."""
    stop, steps = StopFlag(), []
    for event in events("pretrain", out, stop=stop, **options):
        if isinstance(event, Step):
            steps.append(event.step)
        if len(steps) == count:
            stop.set()
        if isinstance(event, Done):
            return steps[0], event.result
    raise AssertionError


@POSIX
def test_a_run_in_a_new_folder_is_not_mixed_with_the_one_before(tmp_path):
    out = tmp_path / "run"
    first = start(out, 5)
    try:
        remove(out)
        step, result = stop_after(out, 10)
        assert step == 1
        _, message = first.communicate(timeout=60)
    finally:
        first.kill()
        first.wait()
    assert first.returncode == 2, message
    assert len(message.splitlines()) == 1
    rescued = tmp_path / "run-rescued"
    assert str(out) in message
    assert f"--resume --out {rescued}" in message
    assert json.loads((out / "run.json").read_text())["started"] == result.record["started"]
    assert not list(tmp_path.rglob("run.lock"))
    last = json.loads((rescued / "last.json").read_text())["step"]
    assert Run.open(rescued).record["status"] == "failed"
    assert stop_after(rescued, 1, resume=True)[0] == last + 1
    assert stop_after(out, 1, resume=True)[0] == 11


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("how", ["moved", "removed with its parent"])
def test_the_state_of_a_lost_run_is_saved_elsewhere(tmp_path, how):
    out, data = tmp_path / "work" / "run", tmp_path / "data"
    process = start(out, 3, XDG_DATA_HOME=str(data), HOME=str(data))
    try:
        if how == "moved":
            out.rename(tmp_path / "work" / "elsewhere")
        else:
            remove(out.parent)
        _, message = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 2
    place = out.with_name("run-rescued")
    if how != "moved":
        (place,) = data.rglob("run-rescued")
        assert not out.parent.exists()
    assert f"--out {place}" in message
    last = json.loads((place / "last.json").read_text())["step"]
    assert stop_after(place, 1, resume=True)[0] == last + 1


@POSIX
def test_a_lock_file_that_is_removed_alone_is_made_again(tmp_path):
    with run_lock(tmp_path / "run") as lock:
        write_text(tmp_path / "run" / "a.txt", "a")
        (tmp_path / "run" / "run.lock").unlink()
        write_text(tmp_path / "run" / "a.txt", "b")
        assert not lock.lost
        with pytest.raises(StorageError, match="working in"), run_lock(tmp_path / "run"):
            pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["a.txt"]


@POSIX
def test_the_lock_of_another_process_stays(tmp_path):
    folder = tmp_path / "run"
    with run_lock(folder):
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "run.lock").write_text("123")
        with pytest.raises(LostFolderError, match="deleted, moved or replaced"):
            write_text(folder / "inner" / "a.txt", "a")
    assert contents(folder) == {"run.lock": b"123"}


@POSIX
def test_a_project_that_was_replaced_is_not_changed(tmp_path):
    with Project.create(tmp_path / "project") as project:
        shutil.copytree(tmp_path / "project", tmp_path / "copy")
        shutil.rmtree(tmp_path / "project")
        shutil.move(tmp_path / "copy", tmp_path / "project")
        before = contents(tmp_path / "project")
        for change in (
            lambda: project.add_class("liver"),
            lambda: project.remember("a", 1),
            lambda: project.new_run_folder("pretrain"),
        ):
            with pytest.raises(StorageError, match="deleted, moved or replaced"):
                change()
    assert contents(tmp_path / "project") == before


@pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
def test_a_disk_without_locks_is_named(tmp_path, monkeypatch):
    import errno
    import fcntl

    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    texts = [getattr(event, "text", "") for event in events("pretrain", tmp_path / "run", 1)]
    assert any("has no locks" in text for text in texts)
    assert "has no locks" in (tmp_path / "run" / "events.jsonl").read_text()


def test_weights_are_not_imported_into_a_folder_in_use(tmp_path):
    list(events("pretrain", tmp_path / "run", 1))
    shutil.copy(tmp_path / "run" / "last.safetensors", tmp_path / "weights.safetensors")
    before = contents(tmp_path / "run")
    with run_lock(tmp_path / "run"), pytest.raises(StorageError, match="working in"):
        import_weights(
            tmp_path / "weights.safetensors", network="tiny", out=tmp_path / "run", overwrite=True
        )
    assert contents(tmp_path / "run") == before
