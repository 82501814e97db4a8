"""Links, pipes and devices in a run folder: no other file is changed, and nothing blocks."""

import json
import os
import subprocess
import sys

import pytest

from napari_sslseg.core.common.atomic import write_text
from napari_sslseg.core.common.errors import CheckpointError, StorageError
from napari_sslseg.core.common.events import Message
from napari_sslseg.core.common.lock import run_lock
from napari_sslseg.core.common.safe_files import open_own, open_regular, read_regular
from napari_sslseg.core.common.safe_json import read_json
from napari_sslseg.core.runs.event_log import EventLog
from napari_sslseg.core.runs.listing import list_runs
from napari_sslseg.core.runs.run import Run, RunWriter
from napari_sslseg.core.runs.run_files import claim
from napari_sslseg.core.runs.states.state_files import remove_states
from napari_sslseg.core.samples.files.slice_files import open_arrays

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")

TEXT = "precious, without an end of line"


@pytest.fixture
def precious(tmp_path):
    path = tmp_path / "precious.txt"
    path.write_text(TEXT)
    yield path
    assert path.read_text() == TEXT


def put(path, how, target):
    path.parent.mkdir(exist_ok=True)
    if how == "link":
        path.symlink_to(target)
    elif how == "hard link":
        path.hardlink_to(target)
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")


ODD = ("link", "hard link", "pipe", "folder", "device")


@pytest.mark.parametrize("how", ODD)
def test_a_lock_replaces_links(tmp_path, precious, how):
    put(tmp_path / "run" / "run.lock", how, precious)
    with (
        pytest.raises(StorageError, match=r"run\.lock is a link or not"),
        run_lock(tmp_path / "run"),
    ):
        raise AssertionError("it was locked")


@pytest.mark.parametrize("how", ODD)
@pytest.mark.parametrize("fresh", [True, False])
def test_a_history_replaces_links(tmp_path, precious, how, fresh):
    put(tmp_path / "run" / "events.jsonl", how, precious)
    with pytest.raises(StorageError, match=r"events\.jsonl is a link or not"):
        EventLog(tmp_path / "run").open(fresh=fresh)
    # Nothing was changed before.
    for begin in (lambda: run_lock(tmp_path / "run").__enter__(), lambda: claim(tmp_path / "run")):
        with pytest.raises(StorageError, match=r"events\.jsonl is a link or not"):
            begin()
    assert len(list((tmp_path / "run").iterdir())) == 1


def test_a_broken_link_creates_no_file(tmp_path):
    (tmp_path / "run.lock").symlink_to(tmp_path / "made")
    with pytest.raises(StorageError):
        open_own(tmp_path / "run.lock")
    assert not (tmp_path / "made").exists()


def test_a_history_continues_after_its_last_complete_line(tmp_path):
    path = tmp_path / "events.jsonl"
    for before, fresh, kept in (
        ("", False, ""),
        ("one\ntwo", False, "one\n"),
        ("cut", False, ""),
        ("one\ntwo\n", False, "one\ntwo\n"),
        ("one\ntwo\n", True, ""),
        ("x\n" + "y" * 2**21, False, "x\n" + "y" * 2**21),
    ):
        path.write_text(before)
        log = EventLog(tmp_path)
        log.open(fresh=fresh)
        log.add(Message("a line"))
        log.close()
        after = path.read_text()
        assert after.startswith(kept)
        assert json.loads(after[len(kept) :])["text"] == "a line"


@pytest.mark.parametrize("name", ["states", "slices", "first-stage"])
def test_folders_that_are_links_are_refused(tmp_path, name):
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "run"
    elsewhere.mkdir()
    run.mkdir()
    inside = {
        elsewhere / "0000000001.safetensors",
        elsewhere / ".napari-sslseg-0123456789abcdef.nii.gz",
    }
    for path in inside:
        path.write_text(TEXT)
    (run / name).symlink_to(elsewhere)
    match = f"{name} is a link"
    with pytest.raises(StorageError, match=match), run_lock(run):
        pass
    with pytest.raises(StorageError, match=match), run_lock(run / name):
        pass
    with pytest.raises(StorageError, match=match):
        claim(run, overwrite=True)
    with pytest.raises(StorageError, match=match):
        remove_states(run)
    with pytest.raises(StorageError, match=match):
        RunWriter(run, {"kind": "pretrain", "settings": {}})
    assert set(elsewhere.iterdir()) == inside


def test_a_run_folder_may_itself_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    with run_lock(tmp_path / "run"):
        assert (tmp_path / "disk" / "run.lock").read_text().split()[0] == str(os.getpid())


@pytest.mark.parametrize("how", ["pipe", "folder", "device"])
def test_special_files_are_not_read(tmp_path, how):
    put(tmp_path / "a", how, None)
    for call in (open_regular, lambda path: read_regular(path, 10)):
        with pytest.raises(OSError, match="regular file"):
            call(tmp_path / "a")


def test_a_link_to_a_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read_regular(tmp_path / "b", 10) == b"0123456789"
    with pytest.raises(ValueError, match="larger than"):
        read_regular(tmp_path / "b", 9)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs" / "a"
    record = {"format": 1, "kind": "pretrain", "settings": {}, "task": {"kind": "x"}}
    folder.mkdir(parents=True)
    write_text(folder / "run.json", json.dumps(record))
    return folder


@pytest.mark.parametrize("how", ["pipe", "device"])
def test_metrics_are_a_file(run, how):
    put(run / "metrics.csv", how, None)
    with pytest.raises(CheckpointError, match="regular file"):
        Run.open(run).metrics()


@pytest.mark.parametrize("how", ["pipe", "device"])
def test_listing_runs_with_pipes_does_not_block(run, how):
    put(run / "best.json", how, None)
    (found,) = list_runs(run.parent)
    assert found.best is None
    assert found.problem is None


@pytest.mark.parametrize("how", ["pipe", "device"])
def test_special_files_in_a_store_are_rebuilt(tmp_path, how):
    folder = tmp_path / "slices"
    put(folder / "index.json", how, None)
    assert open_arrays(folder) is None
    (folder / "index.json").unlink()
    for text in ("[" * 200_000, json.dumps({"shape": [1, 1, 1, 1], "labelled": False})):
        (folder / "index.json").write_text(text)
        (folder / "images.raw").unlink(missing_ok=True)
        put(folder / "images.raw", how, None)
        assert open_arrays(folder) is None


CODE = """
import resource
from napari_sslseg.core.common.safe_json import parse_json
texts = [b"[" + b",".join([part] * 5_500_000) + b"]" for part in (b"[]", b"{}", b'""', b"1")]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for text in [*texts, b"[" * (15 << 20), b'["' + b'\\\\"' * (5 << 20)]:
    try:
        parse_json(text)
    except ValueError as error:
        print(error)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) // 1024 if after < 2**30 else (after - before) // 2**20)
"""


def test_json_with_too_many_values_allocates_no_memory():
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60
    )
    *reasons, memory = done.stdout.splitlines()
    assert len(reasons) == 6
    assert int(memory) < 100, done.stdout


def test_brackets_within_texts_are_not_values(tmp_path):
    ranges = ", ".join(str(number) for number in range(0, 400_000, 2))
    values = {"a": [ranges] * 6, 'b\\"': "[{" * 100_000 + "\\", "c": '\\\\"' * 100_000}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(values))
    assert read_json(path, 2**24) == values
