"""Arguments of a wrong type are refused in one sentence that says what to write."""

import numpy as np
import pytest

from napari_sslseg import core

LABELS = np.ones((4, 4, 4), np.uint8)
SCAN = core.Volume(LABELS, core.Geometry(np.eye(4), (4, 4, 4)))

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
    "labels in a list": lambda folder: core.save_labels([LABELS], folder / "a.nii.gz"),
    "labels in a file": lambda folder: core.save_labels("a.nii.gz", folder / "b.nii.gz"),
    "no file": lambda folder: core.save_labels(LABELS, None, like=SCAN),
    "a list of names": lambda folder: core.save_labels(
        LABELS, folder / "a.nii.gz", like=SCAN, classes=["a"]
    ),
    "one name": lambda folder: core.save_labels(
        LABELS, folder / "a.nii.gz", like=SCAN, classes="Kopf"
    ),
    "patients of a folder": lambda folder: core.with_patients(str(folder), {}),
    "a number of patients": lambda folder: core.with_patients([SCAN], 3),
    "names of scans": lambda folder: core.with_patients(["p0"], {"p0": "anna"}),
    "a number of unlabelled scans": lambda folder: core.finetune(
        [core.LabelledScan(SCAN, SCAN)], unlabelled=5, out=folder / "r"
    ),
    "pause": lambda folder: core.pretrain(folder, out=folder / "r", pause=True),
    "stop": lambda folder: core.pretrain(folder, out=folder / "r", stop=5),
    "resume": lambda folder: core.pretrain(folder, out=folder / "r", resume="yes"),
    "cache": lambda folder: core.pretrain(folder, out=folder / "r", cache=True),
    "no folder to list": lambda folder: core.list_series(None),
    "a number to list": lambda folder: core.list_series(5),
    "numbers to list": lambda folder: core.list_series([5]),
    "number of patients": lambda folder: core.write_dataset(folder / "new", n="2"),
    "no folder to write": lambda folder: core.write_dataset(None, n=2),
    "a file of patients": lambda folder: core.read_patients(5),
    "no label file": lambda folder: core.load_labels(None),
    "no structures": lambda folder: core.read_segments(5),
    "no names": lambda folder: core.read_segment_names(None),
    "no slices": lambda folder: core.read_annotated(None),
    "no labelled classes": lambda folder: core.read_labelled_classes(5),
    "no runs": lambda folder: core.list_runs(None),
    "no weights": lambda folder: core.import_weights(None, network="tiny", out=folder / "r"),
    "a run": lambda folder: core.Run.open(5),
    "a preset": lambda folder: core.preset_named(5),
    "several volumes": lambda folder: core.load_volumes(5),
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


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: core.evalute, ("evaluate",)),
        (lambda: core.PRESETS["dominic-202"], ("dominic-2023",)),
        (
            lambda: core.pretrain("x", "mae", out="r", patch_size=3),
            ("core.ContextRestoration(patch_size=3)", "core.MaskedPatches"),
        ),
        (lambda: core.pretrain("x", "mae", out="r", patch_sise=3), ("patch_size",)),
        (lambda: core.pretrain("x", out="r", learning_rat=3), ("learning_rate",)),
        (lambda: core.finetune([], out="r", batchsize=3), ("batch_size",)),
        (lambda: core.Preprocessing(size=(3, 4)), ("3 × 4",)),
        (lambda: core.Training(betas=(3, 4)), ("betas",)),
    ],
)
def test_a_near_match_is_named(call, words):
    with pytest.raises((core.SslsegError, AttributeError)) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
    assert not hasattr(core, "evalute")
    assert "dominic-202" not in core.PRESETS
