"""How often the files of scans and labels are read before and during a training."""

from collections import Counter

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.scans.formats.nifti import NiftiFile
from napari_sslseg.core.scans.reader import ScanReader

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path):
    """Folder with the images and labels of three subjects."""
    rng = np.random.default_rng(0)
    for number in range(3):
        labels = np.zeros((32, 32, 4), np.uint8)
        labels[8:20, 8:20] = 1
        image = (100 * labels + rng.normal(50, 5, labels.shape)).astype(np.int16)
        for kind, values in (("images", image), ("labels", labels)):
            path = tmp_path / "data" / kind / f"case{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values, np.diag([1.0, 1, 3, 1])), path)
    return tmp_path / "data"


@pytest.fixture
def reads(monkeypatch):
    """Numbers of reads of headers and of values, by file."""
    headers, values = Counter(), Counter()
    init, read = NiftiFile.__init__, NiftiFile.values

    def counted_init(self, path):
        headers[f"{path.parent.name}/{path.name[:5]}"] += 1
        init(self, path)

    def counted_values(self, frame=0):
        values[f"{self.path.parent.name}/{self.path.name[:5]}"] += 1
        return read(self, frame)

    monkeypatch.setattr(NiftiFile, "__init__", counted_init)
    monkeypatch.setattr(NiftiFile, "values", counted_values)
    return headers, values


def once(*names):
    return {f"{kind}/case{number}": 1 for kind, numbers in names for number in numbers}


def with_names(expected):
    """Headers of labels are read three times more.

    For the names of the structures, for the place in the patient, and for the names in the record.
    """
    return {name: 1 + 3 * name.startswith("labels/") for name in expected}


def labelled(folder, *numbers):
    names = [f"case{number}.nii.gz" for number in numbers]
    return [core.LabelledScan(folder / "images" / n, folder / "labels" / n) for n in names]


def short(**fields):
    return core.FinetuneSettings(
        network=core.Network.preset("tiny"),
        training=core.Training(steps=2, batch_size=2),
        **fields,
    )


def test_fine_tuning_reads_each_file_once(folder, reads, tmp_path):
    scans = labelled(folder, 0, 1)
    core.finetune(scans, out=tmp_path / "run", settings=short(), device="cpu")
    expected = once(("images", (0, 1)), ("labels", (0, 1)))
    assert reads == (with_names(expected), expected)


def test_unlabelled_scans_are_read_once_too(folder, reads, tmp_path):
    settings = short(self_training=core.SelfTraining(), average_decay=0.9)
    core.finetune(
        labelled(folder, 0),
        unlabelled=[folder / "images" / "case2.nii.gz"],
        validation=labelled(folder, 1),
        out=tmp_path / "run",
        settings=settings,
        device="cpu",
    )
    expected = once(("images", (0, 1, 2)), ("labels", (0, 1)))
    assert reads == (with_names(expected), expected)


def test_pretraining_reads_each_file_once(folder, reads, tmp_path):
    settings = core.PretrainSettings(
        network=core.Network.preset("tiny"), training=core.Training(steps=2, batch_size=2)
    )
    core.pretrain(folder / "images", out=tmp_path / "run", settings=settings, device="cpu")
    expected = once(("images", (0, 1, 2)))
    assert reads == (expected, expected)


def test_volumes_beyond_the_limit_are_read_again(folder, reads):
    (scan,) = labelled(folder, 0)
    reader = ScanReader(limit=0)
    reader.labels(scan.opened())
    volume, labels = reader.take(scan.opened())
    assert labels is not None
    assert volume.data.shape == labels.data.shape
    assert reads[1] == {"images/case0": 1, "labels/case0": 2}


def test_volumes_are_kept_until_they_are_taken(folder, reads):
    (scan,) = labelled(folder, 0)
    scan, reader = scan.opened(), ScanReader()
    reader.volume(scan.scan)
    for number in (1, 2):
        reader.take(scan)
        assert reads[1]["images/case0"] == number
