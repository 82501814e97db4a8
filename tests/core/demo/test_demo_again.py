"""A demonstration replaces predictions that it made itself, and no others."""

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg.core.common.errors import DataError, StorageError
from napari_sslseg.core.demo import plan
from napari_sslseg.core.demo.demo import iter_demo

PLAN = plan.DemoPlan(3, (1,), 1, 0.3, 1, 0.01, 0.01, "tiny")
SHAPE = (16, 16, 3)


def write_data(folder, seed):
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number in range(3):
        labels = np.zeros(SHAPE, np.uint8)
        labels[4:12, 4:12, 1:] = 1
        values = np.random.default_rng(seed + number).normal(100, 20, SHAPE) + 120 * labels
        for kind, data in (("images", values.astype(np.int16)), ("labels", labels)):
            image = nib.Nifti1Image(data, np.diag([2, 2, 3, 1]))
            nib.save(image, folder / f"{kind}/p{number}.nii.gz")
    (folder / "classes.json").write_text('{"1": "liver"}')
    return folder


def first_event(data, out):
    return next(iter_demo(data, out=out, plan=PLAN, device="cpu"))


def test_predictions_of_the_user_are_not_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "STEP_RANGE", (2, 2))
    data, out = write_data(tmp_path / "a", 0), tmp_path / "out"
    list(iter_demo(data, out=out, plan=PLAN, device="cpu"))
    folder = out / "predictions/self-trained"
    (path,) = folder.glob("*.nii.gz")
    made = {path.name, "classes.json", "predictions.jsonl"}
    assert {file.name for file in folder.iterdir()} == made
    before = path.read_bytes()
    first_event(data, out)  # Its own prediction.
    path.write_bytes((data / "labels" / path.name).read_bytes())  # Corrected by hand.
    with pytest.raises(StorageError, match="was changed since"):
        first_event(data, out)
    path.write_bytes(before)
    with pytest.raises(StorageError, match="another scan"):
        first_event(write_data(tmp_path / "b", 50), out)
    (folder / "predictions.jsonl").unlink()
    with pytest.raises(StorageError, match="was not written"):
        first_event(data, out)
    assert path.read_bytes() == before


def test_a_folder_without_images_and_labels_is_refused(tmp_path):
    data = write_data(tmp_path / "a", 0)
    with pytest.raises(DataError, match="no folder images and no folder labels"):
        first_event(data / "images", tmp_path / "out")


def test_the_held_out_patients_are_counted_among_all(tmp_path):
    events = iter_demo(write_data(tmp_path / "a", 0), out=tmp_path / "out", plan=PLAN)
    said = [next(events).text for _ in range(2)]
    assert "3 scans; 1 of 3 patients" in said[1]
