"""Neighbouring slices as additional channels."""

import warnings

import numpy as np
import pytest
import torch

from napari_sslseg import core
from napari_sslseg.core.common.errors import ScanWarning
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.samples.build import default_preprocessing
from napari_sslseg.core.samples.normalize import Normalizer
from napari_sslseg.core.samples.placement import placement
from napari_sslseg.core.samples.preprocess import neighbours, prepare, prepare_slices
from napari_sslseg.core.samples.preview_slices import PreviewSlices
from napari_sslseg.core.samples.slices import SliceStore


@pytest.fixture(scope="module")
def patients():
    return [
        make_patient(seed, kind, (8, 48, 48), (16.0, 7.0, 7.0))
        for seed, kind in ((0, "CT"), (1, "CT"))
    ]


def settings(reach, size=(48, 48)):
    return core.Preprocessing(modality="CT", size=size, neighbours=reach)


def test_the_slice_comes_first_and_the_outermost_is_repeated():
    found = neighbours(np.array([0, 2, 5]), 2, 0, 5)
    assert [numbers.tolist() for numbers in found] == [
        [0, 2, 5], [0, 1, 4], [1, 3, 5], [0, 0, 3], [2, 4, 5],
    ]  # fmt: skip


def test_close_slices_have_neighbours():
    def chosen(spacing, plane="axial", dimensions=2):
        return default_preprocessing("MR", dimensions, spacing=spacing, plane=plane)

    assert chosen((1.0, 1.0, 1.0)).neighbours == 1
    assert chosen((2.9, 1.0, 1.2)).neighbours == 1
    assert chosen((3.0, 1.0, 1.2)).neighbours == 0
    # Coronal slices of a scan with thick axial slices are close together.
    assert chosen((8.0, 1.5, 1.5), "coronal").neighbours == 1
    assert chosen((8.0, 1.5, 1.5), "coronal").plane == "coronal"
    assert chosen(None).neighbours == 0
    assert isinstance(chosen((1.0, 1.0, 1.0), dimensions=3), core.VolumePreprocessing)


@pytest.mark.parametrize(("thickness", "expected"), [(6.0, 1), (30.0, 0)])
def test_the_first_scan_decides_on_neighbours(tmp_path, thickness, expected):
    patient = core.LabelledScan(*make_patient(2, "MR", (8, 48, 48), (thickness, 7.0, 7.0)))
    settings = core.FinetuneSettings(network=core.Network.preset("tiny"), training={"steps": 1})
    run = core.finetune([patient], out=tmp_path / "run", settings=settings, device="cpu")
    found = core.Run.open(run).settings(core.FinetuneSettings).preprocessing
    assert found.neighbours == expected
    assert found.channels == 1 + 2 * expected


def test_scans_with_distant_slices_are_named():
    thin, thick = (make_patient(2, "CT", (8, 48, 48), (mm, 7.0, 7.0))[0] for mm in (6.0, 30.0))
    with pytest.warns(ScanWarning, match=rf"In 1 of 3 scans \({thick.name}\)"):
        core.SliceStore.build([thin, thick, thin], settings(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        core.SliceStore.build([thick, thick], settings(1))
        core.SliceStore.build([thin, thick], settings(0))


def test_a_scan_that_enlarges_the_canvas_is_named():
    small = make_patient(2, "CT", (8, 48, 48), (6.0, 7.0, 7.0))[0]
    large = make_patient(3, "CT", (8, 96, 96), (6.0, 3.5, 3.5))[0]
    message = rf"96 × 96 pixels.* {large.name} .*48 × 48"
    alone = core.Preprocessing(modality="CT")
    with pytest.warns(ScanWarning, match=message):
        core.SliceStore.build([small, large, small], alone)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        core.SliceStore.build([large, large, small], alone)
        core.SliceStore.build([small, large, small], settings(0, (96, 96)))


def test_a_store_gives_each_slice_with_neighbours_of_its_scan(patients):
    scans = [volume for volume, _ in patients]
    alone = SliceStore.build(scans, settings(0))
    store = SliceStore.build(scans, settings(1))
    assert store.channels == 9
    assert store.images.shape == alone.images.shape  # Each slice is stored once.
    batch = store.batch(np.array([0, 7, 8, 10]))
    images = torch.from_numpy(alone.images)
    for row, beside in enumerate([(0, 0, 1), (7, 6, 7), (8, 8, 9), (10, 9, 11)]):
        torch.testing.assert_close(batch[row], torch.cat([images[i] for i in beside]))


def test_prediction_and_preview_have_the_input_of_the_training(patients):
    volume = patients[0][0]
    store = SliceStore.build([volume], settings(2))
    every = np.arange(len(store))
    place = placement(volume.geometry, settings(2), (48, 48))
    expected = store.batch(every).numpy()
    np.testing.assert_array_equal(prepare(Normalizer(volume, settings(2)), place), expected)
    np.testing.assert_array_equal(PreviewSlices([volume], settings(2)).batch(every), expected)
    assert prepare_slices(Normalizer(volume, settings(2)), place).shape == (8, 3, 48, 48)


def test_a_store_on_disk_serves_any_number_of_neighbours(patients, tmp_path):
    scans = [volume for volume, _ in patients]
    folders = set()
    for reach in (0, 1):
        store = SliceStore.build(scans, settings(reach), storage="disk", cache=tmp_path)
        folders.add(store.folder)
        memory = SliceStore.build(scans, settings(reach))
        every = np.arange(len(store))
        torch.testing.assert_close(store.batch(every), memory.batch(every))
    assert len(folders) == 1


@pytest.mark.parametrize("task", [core.MaskedPatches(patch_size=8), core.ContextRestoration()])
def test_from_pretraining_to_prediction(patients, tmp_path, task):
    scans = [volume for volume, _ in patients]
    training = core.Training(steps=3, batch_size=4)
    pre = core.pretrain(
        scans, task if task.kind == "mae" else task.model_copy(update={"patch_size": 8}),
        out=tmp_path / "pre", device="cpu",
        settings=core.PretrainSettings(
            preprocessing=settings(1), network=core.Network.preset("tiny"), training=training
        ),
    )  # fmt: skip
    run = core.finetune(
        [core.LabelledScan(*patients[0], (2, 3))], init=pre, out=tmp_path / "run", device="cpu",
        unlabelled=scans,
        settings=core.FinetuneSettings(
            training=training, average_decay=0.9, self_training=core.SelfTraining()
        ),
    )  # fmt: skip
    assert run.settings(core.FinetuneSettings).preprocessing.neighbours == 1
    found = core.predict(run, scans[1], device="cpu")
    assert found.labels.shape == scans[1].data.shape
    with pytest.raises(core.SslsegError, match="preprocessing"):
        core.finetune(
            [core.LabelledScan(*patients[0], (2, 3))], init=pre, out=tmp_path / "other",
            settings=core.FinetuneSettings(training=training, preprocessing=settings(0)),
            device="cpu",
        )  # fmt: skip
