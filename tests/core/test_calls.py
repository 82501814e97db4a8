"""Arguments of a wrong type are refused in one sentence that says what to write."""

import numpy as np
import pytest

from napari_sslseg import core

LABELS = np.ones((4, 4, 4), np.uint8)

CALLS = {
    "pair_scans": lambda folder: core.pair_scans([folder], [folder]),
    "no labels": lambda folder: core.pair_scans(folder, None),
    "no run": lambda folder: core.predict(None, folder),
    "several scans": lambda folder: core.load_volume([folder]),
    "an array": lambda folder: core.load_volume(LABELS),
    "no truth": lambda folder: core.evaluate(LABELS, None),
    "a number of classes": lambda folder: core.evaluate(LABELS, LABELS, classes=1),
    "names of classes": lambda folder: core.evaluate_folders(folder, folder, classes=["Kopf"]),
    "no folders": lambda folder: core.evaluate_folders(LABELS, LABELS),
    "like": lambda folder: core.save_labels(LABELS, folder / "a.nii.gz", like="scan.nii.gz"),
    "a class of tasks": lambda folder: core.pretrain(folder, core.SparseMasking, out=folder / "r"),
    "no out": lambda folder: core.pretrain(folder, out=None),
    "no scans": lambda folder: core.pretrain(None, out=folder / "r"),
    "one text": lambda folder: core.split_subjects("name", {"a": 1.0}),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_argument_of_a_wrong_type_is_refused(tmp_path, name):
    with pytest.raises(core.SslsegError, match="write ") as caught:
        CALLS[name](tmp_path)
    assert isinstance(caught.value, TypeError)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_list_of_validation_scans(tmp_path):
    with pytest.raises(core.SslsegError, match="pair_scans"):
        core.finetune([], validation=str(tmp_path), out=tmp_path / "run")
