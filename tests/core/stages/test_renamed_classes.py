"""A run is only resumed with labels whose values have the names that they had."""

import json

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.events import Step, StopFlag

SHAPE = (32, 32, 6)
SWAPPED = {"1": "spleen", "2": "liver"}


def write_names(folder, names):
    (folder / "labels/classes.json").write_text(json.dumps(names))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Folder of a run that was stopped, with files and list of names."""
    folder = tmp_path_factory.mktemp("renamed")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:18, 8:18, 1:5], labels[20:28, 20:28, 2:5] = 1, 2
    for number in range(2):
        values = np.random.default_rng(number).normal(100, 20, SHAPE) + 120 * labels
        for kind, data in (("images", values.astype(np.int16)), ("labels", labels)):
            image = nib.Nifti1Image(data, np.diag([1, 1, 3, 1]))
            nib.save(image, folder / f"{kind}/p{number}.nii.gz")
    write_names(folder, {"1": "liver", "2": "spleen"})
    for name, scans in (("run", paired(folder)), ("named", named(folder, {1: "a", 2: "b"}))):
        stop = StopFlag()
        settings = core.FinetuneSettings(
            network=core.Network.preset("tiny"),
            training=core.Training(steps=6, batch_size=2, checkpoint_share=1),
        )
        out = folder / name
        for event in core.iter_finetune(scans, out=out, settings=settings, device="cpu", stop=stop):
            if isinstance(event, Step):
                stop.set()
    return folder


def paired(folder):
    return core.pair_scans(folder / "images", folder / "labels")


def named(folder, names):
    """Labels in memory with names, as those of a project."""
    scans = [core.load_volume(path) for path in sorted((folder / "images").iterdir())]
    path = folder / "labels/p0.nii.gz"
    return [
        core.LabelledScan(scan, core.load_labels(path, like=scan), class_names=names)
        for scan in scans
    ]


def test_names_that_were_swapped_are_refused(stopped):
    before = (stopped / "run/run.json").read_bytes()
    for names in (SWAPPED, {"1": "liver", "2": "kidney"}):
        write_names(stopped, names)
        with pytest.raises(CheckpointError, match="names of the labels of p0") as caught:
            core.finetune(paired(stopped), out=stopped / "run", resume=True, device="cpu")
        assert "spleen" in str(caught.value)
    assert (stopped / "run/run.json").read_bytes() == before
    scans = named(stopped, {1: "b", 2: "a"})
    with pytest.raises(CheckpointError, match="names of the labels"):
        core.finetune(scans, out=stopped / "named", resume=True, device="cpu")


def test_other_names_and_another_spelling_are_accepted(stopped):
    write_names(stopped, {"0": "background", "1": "Liver ", "2": "SPLEEN", "3": "kidney"})
    run = core.finetune(paired(stopped), out=stopped / "run", resume=True, device="cpu")
    assert run.record["status"] == "finished"
    assert run.class_names == {1: "liver", 2: "spleen"}
    run = core.finetune(named(stopped, {1: "A", 2: "b"}), out=stopped / "named", resume=True)
    assert run.record["status"] == "finished"
