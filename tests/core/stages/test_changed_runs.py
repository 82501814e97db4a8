"""Runs that are not finished, and labels that a run does not know, are said once and clearly."""

import shutil

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.errors import CheckpointError, ScanWarning
from napari_sslseg.core.results.predict_files import iter_predict

SHAPE = (32, 32, 6)
SETTINGS = core.FinetuneSettings(
    network=core.Network.preset("tiny"), training=core.Training(steps=4, batch_size=2)
)

pytestmark = pytest.mark.usefixtures("one_thread")


def write(folder, number):
    rng = np.random.default_rng(number)
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:18, 8:18, :2], labels[20:28, 20:28, 4:] = 1, 2
    image = rng.normal(300, 60, SHAPE) + 200 * labels
    paths = folder / f"images/p{number}.nii.gz", folder / f"labels/p{number}.nii.gz"
    for path, values in zip(paths, (image.astype(np.int16), labels), strict=True):
        path.parent.mkdir(exist_ok=True, parents=True)
        nib.save(nib.Nifti1Image(values, np.diag([1, 1, 3, 1])), path)
    return core.LabelledScan(*paths)


def train(scans, out, *, stop_at=None, **options):
    """Train, and return the texts of the messages."""
    flag, texts = core.StopFlag(), []
    if not options.get("resume"):
        options["settings"] = SETTINGS
    for event in core.iter_finetune(scans, out=out, stop=flag, device="cpu", **options):
        if isinstance(event, core.Message):
            texts.append(event.text)
        if isinstance(event, core.Step) and event.step == stop_at:
            flag.set()
    return " ".join(texts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two labelled scans, a finished run of them, and one that was stopped."""
    folder = tmp_path_factory.mktemp("runs")
    scans = [write(folder, number) for number in range(2)]
    train(scans, folder / "finished")
    train(scans, folder / "stopped", stop_at=2)
    return folder


def items(folder):
    return [
        core.LabelledScan(folder / f"images/p{n}.nii.gz", folder / f"labels/p{n}.nii.gz")
        for n in range(len(list((folder / "labels").iterdir())))
    ]


@pytest.mark.parametrize("which", ["finished", "stopped"])
def test_a_run_that_is_not_finished_is_named_where_it_is_used(folder, tmp_path, which, recwarn):
    run, scan = folder / which, folder / "images/p0.nii.gz"
    said = [
        e.text
        for e in iter_predict(run, [scan], out=tmp_path / "o", device="cpu")
        if isinstance(e, core.Message)
    ]
    said.append(train(items(folder), tmp_path / "next", init=run))
    core.predict(run, scan, device="cpu")
    said += [str(w.message) for w in recwarn if w.category is ScanWarning]
    found = [text for text in said if "stopped at step 2 of 4" in text and "--resume" in text]
    assert len(found) == (3 if which == "stopped" else 0)


def test_a_finished_run_names_labels_that_it_does_not_know(folder, tmp_path):
    for part in ("images", "labels", "finished"):
        shutil.copytree(folder / part, tmp_path / part)
    run = tmp_path / "finished"
    assert "does not know" not in train(items(tmp_path), run, resume=True)
    path = tmp_path / "labels/p1.nii.gz"
    labels = nib.load(path)
    values = np.array(labels.dataobj)
    values[2, 2, 2] = 1
    nib.save(nib.Nifti1Image(values, labels.affine), path)
    write(tmp_path, 2)
    said = train(items(tmp_path), run, resume=True)
    assert "the labels of 1 scan changed since it was trained (p1)" in said
    assert "the labels of 1 scan are new (p2)" in said
    assert "--overwrite" in said
    # Also a class that the run does not have.
    values[3, 3, 3] = 5
    nib.save(nib.Nifti1Image(values, labels.affine), path)
    assert "(p1)" in train(items(tmp_path), run, resume=True)


@pytest.mark.parametrize("exists", [False, True])
def test_a_run_that_never_began_is_not_resumed_but_started(folder, tmp_path, exists):
    out = tmp_path / "run"
    if exists:
        out.mkdir()
    for call, first in ((core.finetune, items(folder)), (core.pretrain, folder / "images")):
        with pytest.raises(CheckpointError, match="start it without --resume"):
            call(first, out=out, resume=True)
    train(items(folder), out)
    assert core.Run.open(out).record["status"] == "finished"


def test_a_class_that_no_listed_slice_shows_is_named(folder, tmp_path):
    whole = items(folder)
    listed = [core.LabelledScan(item.scan, item.labels, (4, 5)) for item in whole]
    said = train(listed, tmp_path / "run")
    assert "Not learnt: the value 2" in said or "Not learnt: the value 1" in said
    assert "(p0, p1)" in said
    assert "Not learnt" not in train(whole, tmp_path / "whole")


def test_a_training_says_which_labels_it_took_for_which_scan(folder, tmp_path):
    said = train(items(folder), tmp_path / "run")
    assert "p0 ← labels/p0.nii.gz" in said
    record = core.Run.open(tmp_path / "run").record["data"]
    assert [entry["label_files"] for entry in record] == [[f"labels/p{n}.nii.gz"] for n in (0, 1)]
