"""The reconstruction branch, which is used only during the training of a network."""

import numpy as np
import pytest
import torch

from napari_sslseg import core
from napari_sslseg.core.common.compute.devices import make_fabric
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import return_value
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.networks.reconstruction import WithReconstruction, with_branch
from napari_sslseg.core.runs.run import RunWriter
from napari_sslseg.core.runs.weights.checkpoints import restore
from napari_sslseg.core.samples.crops import iter_crops
from napari_sslseg.core.segmentation.loss import SegmentationLoss
from napari_sslseg.core.settings.networks import Dense3dNetwork, Network
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.training.job import TrainingJob
from napari_sslseg.core.training.sampler import shuffled_batches
from napari_sslseg.core.training.train import train

SMALL = Dense3dNetwork(
    layers=(1, 1), growth=(4, 4), stem_channels=4, transition_channels=4, decoder_widths=(8,)
)


def test_scores_and_restored_images_of_any_size():
    network = make_network(SMALL, 1, 2)
    model = with_branch(network, SMALL, 1, 0.1)
    assert isinstance(model, WithReconstruction)
    images = torch.randn(2, 1, 9, 12, 17)
    scores, restored = model(images)
    assert scores.shape == (2, 2, 9, 12, 17)
    assert restored.shape == images.shape
    model.eval()
    torch.testing.assert_close(model(images), network(images))


def test_without_a_weight_there_is_no_branch():
    network = make_network(SMALL, 1, 2)
    assert with_branch(network, SMALL, 1, 0) is network


def test_other_networks_are_refused():
    settings = Network.preset("tiny")
    with pytest.raises(ConfigError, match=r"unet2d.*reconstruction"):
        with_branch(make_network(settings, 1, 2), settings, 1, 0.1)


def test_a_fine_tuning_with_another_network_is_refused(tmp_path):
    settings = core.FinetuneSettings(preprocessing=core.Preprocessing(), reconstruction_weight=0.1)
    geometry = core.Geometry(np.eye(4), (16, 16, 16))
    scan, labels = (core.Volume(np.zeros((16, 16, 16)), geometry, "MR") for _ in range(2))
    item = core.LabelledScan(scan, labels)
    with pytest.raises(ConfigError, match=r"reconstruction_weight.*dense3d"):
        core.finetune([item], out=tmp_path / "run", settings=settings)


def test_the_saved_weights_are_those_of_the_network(tmp_path):
    torch.manual_seed(0)
    images = torch.randn(4, 1, 16, 16, 16)
    labels = (images[:, 0] > 0.5).long()
    network = make_network(SMALL, 1, 1)
    model = with_branch(network, SMALL, 1, 0.1)
    compare = SegmentationLoss("bce-to-dice")
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def loss(model, indices, generator):
        scores, restored = model(images[indices])
        error = (restored - images[indices]).square().mean()
        return 0.9 * compare(scores, labels[indices]) + 0.1 * error

    job = TrainingJob(
        model=model,
        settings=Training(steps=3, batch_size=2, learning_rate=1e-2),
        batches=shuffled_batches(np.arange(4), 2),
        steps_per_epoch=2,
        loss=loss,
        validate=lambda model: {"loss": float(model(images).mean())},
        kept=network,
    )
    writer = RunWriter(tmp_path, {"kind": "finetune", "settings": {}})
    list(train(job, writer, make_fabric("cpu")))
    assert any(
        not value.equal(before[name])
        for name, value in model.state_dict().items()
        if name.startswith("reconstruction")
    )
    alone = make_network(SMALL, 1, 1)
    restore(alone, tmp_path / "last.safetensors")
    torch.testing.assert_close(alone(images), network(images))


def first_losses(tmp_path, weight, epochs, name, **others):
    """Return losses of a fine-tuning with nearly constant weights; an epoch is one step."""
    scan, labels = core.make_patient(0, "CT", (12, 24, 32), (16, 15, 12))
    settings = core.FinetuneSettings(
        network=SMALL,
        preprocessing=core.VolumePreprocessing(
            modality="CT", windows=(core.Window(width=400, level=40),), size="whole"
        ),
        training=Training(epochs=epochs, batch_size=1, learning_rate=1e-12, schedule="constant"),
        augmentation=core.Augmentation(
            translation=0, rotation=0, crop=0, elastic=0, intensity=0, noise=0
        ),
        loss="bce-to-dice",
        reconstruction_weight=weight,
        foreground_share=0,
        classes=(1, 2, 3, 4, 5),
        **others,
    )
    run = core.finetune(
        [core.LabelledScan(scan, labels)], out=tmp_path / name, settings=settings, device="cpu"
    )
    return scan, labels, settings, [row["loss"] for row in run.metrics()]


def test_the_loss_of_a_fine_tuning_moves_from_cross_entropy_to_dice(tmp_path):
    """With constant weights the loss is linear in the epoch, from 0.6 / 0.4 to 0.2 / 0.8."""
    scan, labels, settings, losses = first_losses(tmp_path, 0.0, 3, "a")
    torch.manual_seed(0)
    network = make_network(SMALL, 1, 5)
    item = core.LabelledScan(scan, labels)
    store = return_value(iter_crops([item], settings.preprocessing, classes=settings.classes))
    with torch.inference_mode():
        scores = network(store.batch(np.array([0])))[0].double()
    truth = torch.stack([store.label_batch(np.array([0]))[0] == c for c in range(1, 6)]).double()
    shares = scores.sigmoid()
    entropy = -(truth * shares.log() + (1 - truth) * (1 - shares).log()).mean()
    inside, total = (shares * truth).sum((1, 2, 3)), (shares + truth).sum((1, 2, 3))
    dice = 1 - ((2 * inside + 1e-4) / (total + 1e-4)).mean()
    by_hand = [float(w * entropy + (1 - w) * dice) for w in (0.6, 0.4, 0.2)]
    assert losses == pytest.approx(by_hand, rel=1e-4)
    assert abs(by_hand[0] - by_hand[2]) > 0.01


def test_the_reconstruction_loss_has_its_weight_and_restores_the_image(tmp_path):
    """Losses at two weights determine both terms; that of the branch is the error of its images."""
    none = first_losses(tmp_path, 0.0, 1, "a")[3][0]
    tenth = first_losses(tmp_path, 0.1, 1, "b")[3][0]
    half = first_losses(tmp_path, 0.5, 1, "c")[3][0]
    # L(w) = (1 − w) segmentation + w reconstruction.
    restoring = (tenth - 0.9 * none) / 0.1
    assert half == pytest.approx(0.5 * none + 0.5 * restoring, rel=1e-3)
    scan, labels, settings, _ = first_losses(tmp_path, 0.0, 1, "d")
    item = core.LabelledScan(scan, labels)
    store = return_value(iter_crops([item], settings.preprocessing, classes=settings.classes))
    images = store.batch(np.array([0]))
    torch.manual_seed(0)
    model = with_branch(make_network(SMALL, 1, 5), SMALL, 1, 0.1)
    with torch.inference_mode():
        error = (model(images)[1].double() - images).square().mean()
    assert restoring == pytest.approx(float(error), rel=1e-2)
