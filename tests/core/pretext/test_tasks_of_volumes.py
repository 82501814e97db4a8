"""Restoration tasks on networks of volumes."""

from itertools import product

import numpy as np
import pytest
import torch

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.settings.networks import Dense3dNetwork, DynUNet3dNetwork
from napari_sslseg.core.settings.patch_size import patch_size_for
from napari_sslseg.core.settings.preprocessing import VolumePreprocessing
from napari_sslseg.core.settings.pretext.registry import TASKS, check_task, make_task

RESTORING = [
    "context-restoration",
    "context-prediction",
    "masked-pixels",
    "mae",
    "spark",
    "models-genesis",
    "volume-fusion",
]
SIZE = (16, 32, 32)
NETWORKS = {
    "dynunet3d": DynUNet3dNetwork(widths=(4, 6, 8)),
    "dense3d": Dense3dNetwork(layers=(1, 2, 2), growth=(2, 4, 4), decoder_widths=(8, 4)),
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def made(name, network, size=SIZE):
    task = make_task(name, size).build(size, 0)
    inner = make_network(NETWORKS[network], 2, task.output_channels(2), output_kernel=3)
    return task, task.wrap(inner)


def draw(task, n=2, seed=0):
    return task.sample(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", RESTORING)
def test_each_task_trains_each_network_of_volumes(name, network):
    task, model = made(name, network)
    images = torch.randn(2, 2, *SIZE)
    parameters = draw(task)
    model.train()
    loss = task.loss(model, images, parameters)
    assert loss.shape == ()
    loss.backward()
    for key, weights in model.named_parameters():
        assert weights.grad is not None, key
        assert weights.grad.isfinite().all(), key
    assert any((weights.grad != 0).any() for weights in model.encoder.parameters())
    shown = task.preview(images, parameters, model)
    assert model.training
    assert shown.original.shape == shown.corrupted.shape == images.shape
    assert shown.mask.shape == (2, 1, *SIZE)
    assert shown.restored.shape[2:] == shown.error.shape[2:] == SIZE
    assert np.isfinite(shown.restored).all()
    assert np.array_equal(shown.corrupted, task.apply(images, parameters).numpy())


@pytest.mark.parametrize("name", ["context-restoration", "mae", "volume-fusion"])
def test_a_network_of_volumes_learns(name):
    task, model = made(name, "dynunet3d")
    grid = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in SIZE), indexing="ij")
    smooth = torch.stack([grid[0] + grid[1].square(), grid[2] * grid[1]])
    images = torch.stack([smooth, smooth.flip(1)])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(16):
        loss = task.loss(model, images, task.sample(2, generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])


@pytest.mark.parametrize("name", RESTORING)
def test_losses_in_bfloat16_are_finite(name):
    # Only two levels: on the CPU, bfloat16 convolutions of PyTorch on few voxels have NaN
    # gradients.
    task, model = made(name, "dynunet3d", (32, 32, 32))
    images = torch.randn(2, 2, 32, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = task.loss(model, images, draw(task))
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    loss.backward()
    assert all(weights.grad.isfinite().all() for weights in model.parameters())


def test_tasks_and_their_dimensions():
    for name, kind in TASKS.items():
        assert (2 in kind.dimensions) == (name != "siamese"), name
        assert (3 in kind.dimensions) == (name in RESTORING or name == "siamese"), name
    check_task(make_task("mae"), 3)
    check_task(make_task("mae"), 2)
    with pytest.raises(ConfigError) as error:
        check_task(make_task("global-contrast"), 3)
    for name, kind in TASKS.items():
        assert (name in str(error.value)) == (3 in kind.dimensions or name == "global-contrast")


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("context-restoration", {(48, 64, 48): 8, (128, 128, 128): 8, (256, 256, 256): 16}),
        ("mae", {(48, 64, 48): 8, (96, 96, 96): 8, (128, 128, 128): 16, (6, 64, 64): 4}),
        ("spark", {(48, 64, 48): 16, (96, 96, 96): 16, (128, 128, 128): 16, (8, 64, 64): 8}),
    ],
)
def test_patches_are_chosen_by_the_smallest_side_of_volumes(name, sides):
    for size, side in sides.items():
        assert make_task(name, size).patch_size == side
    assert make_task(name, (48, 64, 48), patch_size=5).patch_size == 5


@pytest.mark.parametrize("name", ["context-restoration", "mae", "spark"])
def test_the_chosen_patches_fit_thin_volumes(name):
    for size in product((3, 8, 16, 24, 48), (8, 16, 48), (16, 40)):
        make_task(name, size, **({"n_masks": 1} if name.startswith("context") else {})).build(size)
    assert patch_size_for((1, 1, 2)) == 1


def test_spark_needs_cubes_that_are_multiples_of_the_stride():
    task = core.SparseMasking(patch_size=12).build((24, 24, 24))
    network = make_network(NETWORKS["dense3d"], 1, 1)
    with pytest.raises(ConfigError, match=r"12 voxels .* multiple of 8"):
        task.wrap(network)


def test_captions_of_volumes():
    for name in RESTORING:
        task = make_task(name, SIZE).build(SIZE, 0)
        words = " ".join(task.preview(torch.randn(2, 1, *SIZE), draw(task)).captions.values())
        assert "{" not in words
        assert "pixel" not in words.lower()
        assert "slice" not in words.lower()


def test_warnings_name_volumes():
    task = make_task("masked-pixels")
    assert task.remark(VolumePreprocessing(normalize="unit")) is None
    assert "0…1" in task.remark(VolumePreprocessing())


def test_tasks_that_mix_samples_need_two_different_ones():
    task = make_task("volume-fusion").build((32, 32, 32))
    rng = np.random.default_rng(0)
    batch = next(task.batches(np.arange(3), 16)(rng))
    assert sorted(batch) == [0, 1, 2]
    with pytest.raises(ConfigError, match="compares the samples of a batch"):
        task.batches(np.arange(1), 16)
    assert task.validation_batches(np.arange(1), 8, 4, 0) == []
    # Three samples in batches of two would leave a batch of one.
    assert [len(part) for part in task.validation_batches(np.arange(3), 8, 2, 0)] == [3]
    assert [len(part) for part in task.validation_batches(np.arange(8), 8, 4, 0)] == [4, 4]


def test_the_default_patch_size_of_spark_follows_the_network():
    assert make_task("spark", (64, 64), stride=32).patch_size == 32
    assert make_task("spark", (64, 64), stride=8).patch_size % 8 == 0
    assert make_task("spark", (64, 64), stride=32, patch_size=8).patch_size == 8
    assert make_task("mae", (64, 64), stride=32).patch_size == 8
