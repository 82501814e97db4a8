"""Pretraining, fine-tuning and prediction of volumes end to end, on phantom patients."""

import dataclasses

import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.networks import Dense3dNetwork, DynUNet3dNetwork, Network
from napari_sslseg.core.settings.preprocessing import VolumePreprocessing
from napari_sslseg.core.settings.pretext.registry import make_task
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.stages.finetune import finetune
from napari_sslseg.core.stages.pretrain import pretrain

TINY = DynUNet3dNetwork(widths=(4, 8, 16))
COARSE = VolumePreprocessing(modality="CT", spacing=(12.0, 9.0, 9.0), size=(16, 32, 32))


def training(steps=2, **others):
    return Training(steps=steps, batch_size=2, **others)


@pytest.fixture(scope="module")
def patients():
    return [core.make_patient(seed, "CT", (24, 64, 64), (8.0, 5.6, 5.6)) for seed in range(2)]


@pytest.fixture(scope="module")
def labelled(patients):
    return [LabelledScan(scan, labels) for scan, labels in patients]


@pytest.mark.parametrize("task", ["context-restoration", "mae", "masked-pixels"])
def test_inpainting_in_3d_starts_a_network_of_volumes(task, patients, labelled, tmp_path):
    pre = pretrain(
        [scan for scan, _ in patients],
        make_task(task, (16, 32, 32)),
        out=tmp_path / "pre",
        settings=PretrainSettings(network=TINY, preprocessing=COARSE, training=training()),
        device="cpu",
    )
    run = finetune(
        labelled,
        init=pre,
        out=tmp_path / "ft",
        settings=FinetuneSettings(training=training()),
        device="cpu",
    )
    names = run.record["transfer"]["copied"]
    assert names
    assert all(name.startswith("encoder.") for name in names)
    scan = patients[0][0]
    found = core.predict(run, scan, device="cpu")
    assert found.labels.shape == scan.data.shape
    assert found.probabilities.shape == (6, *scan.data.shape)
    np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-4)
    assert set(np.unique(found.labels)) <= {0, 1, 2, 3, 4, 5}


@pytest.mark.slow
def test_a_network_of_volumes_learns_to_segment(patients, labelled, tmp_path):
    """The liver of a training patient: Dice is far above chance."""
    settings = FinetuneSettings(
        network=TINY,
        preprocessing=COARSE.model_copy(update={"size": "whole"}),
        training=training(60, learning_rate=5e-3),
        classes=(1, 2, 3, 4, 5),
    )
    run = finetune(labelled, out=tmp_path / "ft", settings=settings, device="cpu")
    scan, truth = patients[0]
    scores = core.evaluate(core.predict(run, scan, device="cpu"), truth, classes=(1,))
    assert scores.mean_dice > 0.5


def test_prediction_by_crops_covers_the_scan(patients, labelled, tmp_path):
    """Sliding windows and the whole scan agree in the middle, where both have the surroundings."""
    whole = COARSE.model_copy(update={"size": "whole"})
    settings = FinetuneSettings(network=TINY, preprocessing=whole, training=training(2))
    run = finetune(labelled, out=tmp_path / "ft", settings=settings, device="cpu")
    segmenter = core.load_segmenter(run, "cpu")
    scan = patients[0][0]
    at_once = core.predict(segmenter, scan)
    crops = dataclasses.replace(
        segmenter, preprocessing=whole.model_copy(update={"size": (16, 32, 32)})
    )
    by_crop = core.predict(crops, scan)
    assert at_once.labels.shape == by_crop.labels.shape
    difference = np.abs(at_once.probabilities - by_crop.probabilities)
    # InstanceNorm depends on the surroundings, so the results are only similar.
    assert difference.mean() < 0.1


def test_the_dense_network_takes_whole_scans_of_different_sizes(tmp_path):
    scans = [
        core.make_patient(seed, "CT", shape, (9.0, 7.0, 7.0))
        for seed, shape in enumerate([(20, 48, 48), (24, 56, 64)])
    ]
    settings = FinetuneSettings(
        network=Dense3dNetwork(layers=(1, 1), growth=(4, 8), decoder_widths=(8,)),
        preprocessing=VolumePreprocessing(modality="CT", size="whole"),
        training=Training(steps=2, batch_size=1),
    )
    run = finetune([LabelledScan(*pair) for pair in scans], out=tmp_path / "ft", settings=settings)
    for scan, _ in scans:
        assert core.predict(run, scan).labels.shape == scan.data.shape


@pytest.mark.parametrize(
    ("network", "preprocessing", "message"),
    [
        (Network.preset("tiny"), COARSE, "unet2d takes slices, not volumes"),
        (TINY, core.Preprocessing(modality="CT"), "dynunet3d takes volumes, not slices"),
    ],
)
def test_networks_and_preprocessing_of_other_dimensions_are_refused(
    network, preprocessing, message, patients, labelled, tmp_path
):
    scans: list[Volume] = [scan for scan, _ in patients]
    with pytest.raises(ConfigError, match=message):
        pretrain(
            scans,
            out=tmp_path / "a",
            settings=PretrainSettings(network=network, preprocessing=preprocessing),
        )
    with pytest.raises(ConfigError, match=message):
        finetune(
            labelled,
            out=tmp_path / "b",
            settings=FinetuneSettings(network=network, preprocessing=preprocessing),
        )
    assert not (tmp_path / "a").exists()


def test_a_task_of_slices_is_refused_on_volumes_before_anything_is_read(patients, tmp_path):
    with pytest.raises(ConfigError, match=r"global-contrast.*volumes"):
        pretrain(
            [scan for scan, _ in patients],
            make_task("global-contrast"),
            out=tmp_path / "a",
            settings=PretrainSettings(network=TINY),
        )
