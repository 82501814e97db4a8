"""Predictions reach the right place, keep what is there, and say which names they get."""

import json
import os
import stat
import sys
import warnings

import nibabel as nib
import numpy as np
import pytest

from command_line import run
from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError, DataError, ScanWarning, StorageError
from napari_sslseg.core.common.events import Done, Message
from napari_sslseg.core.results.predict_files import iter_predict

SHAPE = (32, 32, 6)


def write_scan(path, seed):
    path.parent.mkdir(exist_ok=True)
    values = np.random.default_rng(seed).normal(300, 60, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.diag([1, 1, 3, 1])), path)
    return path


def train(folder, names):
    pairs = []
    for number in range(2):
        image = write_scan(folder / f"images/p{number}.nii.gz", number)
        labels = np.zeros(SHAPE, np.uint8)
        labels[8:18, 8:18, 1:5], labels[20:28, 20:28, 2:5] = 1, 2
        (folder / "labels").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(labels, np.diag([1, 1, 3, 1])), folder / f"labels/p{number}.nii")
        pairs.append(core.LabelledScan(image, folder / f"labels/p{number}.nii", class_names=names))
    settings = core.FinetuneSettings(
        network=core.Network.preset("tiny"), training=core.Training(steps=1, batch_size=2)
    )
    core.finetune(pairs, out=folder / "run", settings=settings, device="cpu")
    return folder / "run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run without names of its classes."""
    return train(tmp_path_factory.mktemp("plain"), None)


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    return train(tmp_path_factory.mktemp("named"), {1: "liver", 2: "spleen"})


def events_of(*args, **options):
    return list(iter_predict(*args, device="cpu", **options))


def texts(events):
    return " ".join(event.text for event in events if isinstance(event, Message))


def test_a_scan_that_is_replaced_meanwhile_is_predicted_again(trained, tmp_path):
    scan, out = write_scan(tmp_path / "in/s.nii.gz", 0), tmp_path / "out"
    for event in iter_predict(trained, [scan], out=out, device="cpu"):
        if isinstance(event, Message) and event.text.startswith("Modality"):  # It was read.
            write_scan(scan, 1)
    with pytest.raises(StorageError, match="changed since"):
        events_of(trained, [scan], out=out, resume=True)


def test_labels_that_the_run_learnt_from_are_never_replaced(trained):
    truth = trained.parent / "labels/p0.nii"
    before = truth.read_bytes()
    scan = trained.parent / "images/p0.nii.gz"
    options = {"out": truth.parent, "suffix": ".nii", "overwrite": True}
    with pytest.raises(StorageError, match=r"learnt from labels/p0\.nii"):
        events_of(trained, [scan], **options)
    assert truth.read_bytes() == before


def test_a_label_map_is_not_segmented(trained):
    labels = trained.parent / "labels/p0.nii"
    with pytest.raises(DataError, match=r"p0\.nii looks like a label map"):
        core.predict(trained, labels, device="cpu")


def test_swapped_arguments_are_named(trained, tmp_path):
    scan = write_scan(tmp_path / "images/s.nii.gz", 0)
    found = run("predict", scan.parent, trained, "--out", tmp_path / "out")
    assert found.returncode == 2
    assert "give the run first" in found.stderr


def test_a_run_is_printed_on_one_line(trained):
    text = repr(core.Run.open(trained))
    assert "finetune" in text
    assert "finished" in text
    assert len(text) < len(str(trained)) + 80


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_names_that_a_folder_gives_to_labels_without_names_are_said(trained, tmp_path, suffix):
    scan, out = write_scan(tmp_path / "in/s.nii.gz", 0), tmp_path / "out"
    assert "no names" not in texts(events_of(trained, [scan], out=out, suffix=suffix))
    (out / "classes.json").write_text('{"1": "kidney", "9": "aorta"}')
    said = texts(events_of(trained, [scan], out=out, suffix=suffix, overwrite=True))
    assert "no names of classes" in said
    assert "1 kidney" in said
    assert "aorta" not in said


@pytest.mark.parametrize(
    "text", ['{"run": 1, "score": 0.5}\n', "[1, 2]\n", "prediction one\n", '{"file": "a.nii"}']
)
def test_a_journal_of_another_program_is_not_changed(trained, tmp_path, text):
    scan, out = write_scan(tmp_path / "in/s.nii.gz", 0), tmp_path / "out"
    out.mkdir()
    (out / "predictions.jsonl").write_text(text)
    with pytest.raises(StorageError, match=r"predictions\.jsonl"):
        events_of(trained, [scan], out=out)
    assert [file.name for file in out.iterdir()] == ["predictions.jsonl"]
    assert (out / "predictions.jsonl").read_text() == text


def test_a_journal_with_the_part_of_a_line_is_continued(trained, tmp_path):
    scan, out = write_scan(tmp_path / "in/s.nii.gz", 0), tmp_path / "out"
    events_of(trained, [scan], out=out)
    line = (out / "predictions.jsonl").read_bytes()
    other = write_scan(tmp_path / "in/t.nii.gz", 1)
    for part in (line[:1], line[:40], b"\0" * 9):
        (out / "predictions.jsonl").write_bytes(line + part)
        events_of(trained, [scan, other], out=out, resume=True)
        events_of(trained, [scan, other], out=out, resume=True)
        (out / "t.nii.gz").unlink()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_the_folder_of_the_scans_is_refused(trained, tmp_path, suffix):
    scan = write_scan(tmp_path / "in/s.nii.gz", 0)
    (tmp_path / "in/below").mkdir()
    for out in (scan.parent, tmp_path / "in/below/.."):
        with pytest.raises(StorageError, match="holds scans"):
            events_of(trained, [scan], out=out, suffix=suffix)
    done = run("predict", trained, scan, "--out", scan.parent, "--format", suffix[1:])
    assert done.returncode == 2
    assert {file.name for file in scan.parent.iterdir()} == {"s.nii.gz", "below"}
    events_of(trained, [scan], out=scan.parent / "below", suffix=suffix)


@pytest.mark.skipif(sys.platform != "linux", reason="names of 255 bytes, as on Linux")
@pytest.mark.parametrize("exists", [False, True])
def test_a_name_that_is_too_long_does_not_end_the_others(trained, tmp_path, exists):
    good = write_scan(tmp_path / "in/s.nii.gz", 0)
    long = write_scan(tmp_path / f"in/{'x' * 251}.nii", 1)
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    done = events_of(trained, [long, good], out=out)[-1]
    assert isinstance(done, Done)
    written, (sentence,) = done.result
    assert [path.name for path in written] == ["s.nii.gz"]
    assert not done.stopped
    assert "too long" in sentence


def test_the_names_of_a_folder_are_only_replaced_with_its_only_file(named, tmp_path):
    scans = [write_scan(tmp_path / f"in/{name}.nii.gz", 0) for name in "st"]
    out, other = tmp_path / "out", {1: "kidney"}
    events_of(named, scans[:1], out=out, classes=other)
    with pytest.raises(StorageError, match="kidney"):
        events_of(named, scans, out=out, overwrite=True)
    assert core.read_segment_names(out / "s.nii.gz") == other
    events_of(named, scans[:1], out=out, overwrite=True)
    assert core.read_segment_names(out / "s.nii.gz") == {1: "liver", 2: "spleen"}


def test_a_prediction_that_fails_leaves_no_names(named, tmp_path):
    scan, out = write_scan(tmp_path / "in/s.nii.gz", 0), tmp_path / "out"

    def predict():
        for event in iter_predict(named, [scan], out=out, device="cpu"):
            if isinstance(event, Message) and event.text.startswith("Modality"):
                out.mkdir()
                (out / "predictions.jsonl").mkdir()  # So that no line can be added.

    with pytest.raises(StorageError):
        predict()
    assert [file.name for file in out.iterdir()] == ["predictions.jsonl"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
def test_a_prediction_that_is_replaced_keeps_its_place_and_permissions(named, tmp_path):
    scan, out = write_scan(tmp_path / "in/s.nii.gz", 0), tmp_path / "out"
    events_of(named, [scan], out=out)
    shared, old = tmp_path / "shared.nii.gz", (out / "s.nii.gz")
    old.rename(shared)
    old.symlink_to(shared)
    shared.chmod(0o640)
    before = os.stat(shared).st_mtime_ns
    events_of(named, [scan], out=out, overwrite=True)
    assert old.is_symlink()
    assert os.stat(shared).st_mtime_ns != before
    assert stat.S_IMODE(shared.stat().st_mode) == 0o640
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == ["s.nii.gz"] * 2
    events_of(named, [scan], out=out, resume=True)


def test_scores_of_patients_that_the_run_learnt_from_are_doubted(trained, tmp_path):
    """In Python too: of a prediction, of its file, and of a folder of such files only."""
    source = trained.parent
    truth = source / "labels/p0.nii"
    prediction = core.predict(trained, source / "images/p0.nii.gz", device="cpu")
    assert prediction.use == "training"
    stranger = core.predict(trained, write_scan(tmp_path / "new/x9.nii.gz", 9), device="cpu")
    assert stranger.use == "unseen"
    out = tmp_path / "out"
    said = texts(events_of(trained, [source / "images"], out=out))
    assert "Their scores would be too high" in said
    with pytest.warns(ScanWarning, match="learnt from labels of this patient"):
        assert core.evaluate(prediction, truth).use == "training"
    with pytest.warns(ScanWarning, match="learnt from labels of this patient"):
        core.evaluate(out / "p0.nii.gz", truth)
    with pytest.warns(ScanWarning, match="learnt from labels of all these patients"):
        found = core.evaluate_folders(out, source / "labels")
    assert not found.left_out
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        core.evaluate(stranger, truth)


def test_label_maps_among_the_scans_are_named_in_one_sentence(trained, tmp_path):
    scan = write_scan(tmp_path / "in/x9.nii.gz", 9)
    for number in range(5):
        labels = nib.load(trained.parent / "labels/p0.nii")
        nib.save(labels, tmp_path / f"in/m{number}.nii.gz")
    written, failed = events_of(trained, [tmp_path / "in"], out=tmp_path / "out")[-1].result
    assert [path.name for path in written] == [scan.name]
    (sentence,) = failed
    assert "5 files look like label maps" in sentence
    assert "m0.nii.gz" in sentence
    done = run("predict", trained, tmp_path / "in", "--out", tmp_path / "again")
    assert done.returncode == 2
    assert done.stderr.count("label map") == 1


def test_equal_names_are_refused_before_the_first_prediction(trained, tmp_path):
    scans = [write_scan(tmp_path / f"in/x{n}.nii.gz", n) for n in (8, 9)]
    with pytest.raises(ConfigError, match="Liver and liver"):
        events_of(trained, scans, out=tmp_path / "out", classes={1: "Liver", 2: "liver"})
    assert not (tmp_path / "out").exists()
