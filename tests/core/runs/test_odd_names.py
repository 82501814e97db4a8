"""File names that are not UTF-8, as on discs written in Latin-1, and records of many scans."""

import errno
import json
import os
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_sslseg.core.common.atomic import write_text
from napari_sslseg.core.common.errors import CheckpointError, StorageError
from napari_sslseg.core.common.events import Message
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.runs.event_log import EventLog
from napari_sslseg.core.runs.provenance import data_record, scan_records
from napari_sslseg.core.runs.run import Run, RunWriter
from napari_sslseg.core.runs.states.state import State
from napari_sslseg.core.runs.states.state_files import newest_state, write_state
from napari_sslseg.core.runs.weights.checkpoints import load_weights
from napari_sslseg.core.runs.weights.foreign import read_foreign
from napari_sslseg.core.samples.files.slice_files import SliceArrays
from napari_sslseg.core.samples.slices import SliceStore
from napari_sslseg.core.samples.store import StoredScan
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.labels import load_labels, save_labels
from napari_sslseg.core.scans.matching.patients import with_patients
from napari_sslseg.core.scans.volume import load_volume
from napari_sslseg.core.settings.preprocessing import Preprocessing

LATIN_1 = os.fsdecode(b"Kn\xf6dler")


@pytest.fixture
def odd(tmp_path):
    """A folder whose name is not UTF-8."""
    folder = tmp_path / LATIN_1
    try:
        folder.mkdir()
        (folder / LATIN_1).touch()
    except OSError as error:
        # macOS refuses such names, and Windows has none.
        if error.errno in (errno.EILSEQ, errno.EINVAL):
            pytest.skip("this file system has no such names")
        raise
    (folder / LATIN_1).unlink()
    return folder


def write_scan(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 900, (12, 10, 6)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.diag([-2.0, -2.0, 3.0, 1.0])), path)
    return path


def test_a_record_keeps_the_names(odd):
    scans = [LATIN_1, "Knödler", "plain"]
    record = {"kind": "pretrain", "settings": {}, "scans": scans, "data": [{"name": LATIN_1}]}
    RunWriter(odd, record).finish("finished")
    found = Run.open(odd)
    assert found.record["scans"] == scans
    assert found.record["data"] == [{"name": LATIN_1}]
    (odd / "run.json").read_text(encoding="utf-8")


def test_a_history_keeps_the_names(odd):
    log = EventLog(odd)
    log.open(fresh=True)
    log.add(Message(f"{odd / LATIN_1} was skipped."))
    log.close()
    (line,) = (odd / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["text"] == f"{odd / LATIN_1} was skipped."


def test_reports_are_utf_8(odd):
    write_text(odd / "scores.csv", f"scan,dice\n{LATIN_1},0.5\nKnödler,0.7\n")
    text = (odd / "scores.csv").read_text(encoding="utf-8")
    assert text == "scan,dice\nKn\\udcf6dler,0.5\nKnödler,0.7\n"


def test_text_that_is_no_file_name_is_still_refused(tmp_path):
    for text in (b'"\\ud800"', b'"\\udc7f"', b'"\\udd00"'):
        (tmp_path / "run.json").write_bytes(text)
        with pytest.raises(CheckpointError, match="not Unicode"):
            Run.open(tmp_path)


def ended(events):
    """Return the messages and the result of a generator."""
    messages = []
    while True:
        try:
            messages.append(next(events))
        except StopIteration as end:
            return messages, end.value


def test_states_below_such_a_folder_are_intact(odd):
    for step in (3, 5):
        write_state(odd, State(step, {"a": torch.arange(4.0)}, {"rate": 0.1}))
    before = sorted((odd / "states").iterdir())
    messages, state = ended(newest_state(odd))
    assert not messages
    assert state.step == 5
    assert torch.equal(state.tensors["a"], torch.arange(4.0))
    assert sorted((odd / "states").iterdir()) == before


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.runs.states.state import DamagedStateError
from napari_sslseg.core.runs.states.state_files import read_state
import torch, safetensors.torch
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**25, size + 2**25))
try:
    read_state(Path(sys.argv[1]))
except DamagedStateError as error:
    print("damaged", error)
except CheckpointError as error:
    print("unreadable", error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")
def test_a_state_is_not_damaged_because_memory_is_short(tmp_path):
    path = write_state(tmp_path, State(1, {"a": torch.zeros(2**25)}, {}))
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("unreadable"), done.stdout
    assert str(path) in done.stdout
    assert "\n" not in done.stdout.strip()


def test_weights_in_such_a_folder_are_read(odd):
    weights = {"a": torch.arange(3.0)}
    with (odd / f"{LATIN_1}.pt").open("wb") as file:
        torch.save(weights, file)
    save_file(weights, odd.parent / "w.safetensors")
    os.replace(odd.parent / "w.safetensors", odd / f"{LATIN_1}.safetensors")
    assert torch.equal(load_weights(odd / f"{LATIN_1}.safetensors")["a"], weights["a"])
    for suffix in (".pt", ".safetensors"):
        found = read_foreign(odd / f"{LATIN_1}{suffix}")
        assert torch.equal(found.tensors["a"], weights["a"])


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_labels_are_written_under_such_names(odd, suffix):
    scan = load_volume(write_scan(odd / f"{LATIN_1}.nii.gz"))
    assert scan.name == LATIN_1
    labels = (scan.data > 400).astype(np.uint8)
    path = save_labels(labels, odd / "labels" / f"{LATIN_1}{suffix}", like=scan)
    assert os.listdir(path.parent) == [path.name]
    assert np.array_equal(load_labels(path, like=scan).data, labels)


def test_a_project_keeps_the_paths(odd):
    write_scan(odd / "scans" / LATIN_1 / f"{LATIN_1}.nii.gz")
    with Project.create(odd / "project") as project:
        added = project.add_scans(odd / "scans")
        assert not added.problems
        (name,) = added.added
        name.encode()
        labels = project.labels(name).data
        labels[2, 3:5] = 1
        project.save_labels(name, labels)
        before = project.record
    with Project.open(odd / "project") as project:
        assert project.record == before
        assert project.load(name).path.name == f"{LATIN_1}.nii.gz"
        assert project.labels(name).data.sum() == labels.sum()
        project.mark_done(name, [2])


def test_a_store_of_such_scans_is_found_again(odd):
    (series,) = list_series(write_scan(odd / f"{LATIN_1}.nii.gz"))
    settings = Preprocessing(modality="MR")
    first, second = (
        SliceStore.build([series], settings, storage="disk", cache=odd / "cache") for _ in range(2)
    )
    assert first.folder == second.folder
    assert second.scans[0].name == LATIN_1


def test_a_table_of_patients_names_such_scans_as_they_are_printed(odd):
    found = list_series(write_scan(odd / f"{LATIN_1}.nii.gz"))
    (scan,) = with_patients(found, {"Kn\\udcf6dler": "p7"})
    assert scan.subject == "p7"


def test_the_record_of_many_volumes_is_small_and_opens(tmp_path):
    count, each = 36_000, 20
    scans = [
        StoredScan(f"sub-{n:05}_ses-1_T1w", f"sub-{n:05}", n * each, each, "a" * 32, "b" * 32)
        for n in range(count)
    ]
    n = count * each
    marks = [np.ones(n, bool), np.zeros(n, bool), np.zeros(n, bool)]
    labels = np.zeros((n, 1, 1), np.uint8)
    arrays = SliceArrays(np.zeros((n, 1, 1, 1), np.float32), labels, *marks)
    store = SliceStore(arrays, scans, Preprocessing(modality="MR", size=(32, 32)), [1])
    begin = time.process_time()
    odd = np.arange(n)[1::2]  # No two slices are neighbours.
    record = {
        "kind": "pretrain",
        "settings": {},
        "scans": [scan.name for scan in scans],
        "data": data_record(store, odd[: n // 4], odd[n // 4 :]),
    }
    RunWriter(tmp_path, record)
    run = Run.open(tmp_path)
    assert len(scan_records(run)) == count
    assert time.process_time() - begin < 30
    assert run.record["data"][0]["training"].startswith("1, 3, 5")
    assert run.record["data"][-1]["validation"].endswith("17, 19")


def test_a_record_that_cannot_be_opened_again_is_noticed_at_once(tmp_path):
    record = {"kind": "pretrain", "settings": {}, "seed": 10**16}
    with pytest.raises(StorageError, match="could not be opened again"):
        RunWriter(tmp_path, record)
