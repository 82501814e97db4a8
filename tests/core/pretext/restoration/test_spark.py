import numpy as np
import pytest
import torch

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.pretext.pictures.figure import preview_figure
from napari_sslseg.core.pretext.restoration.sparse_task import patch_statistics
from napari_sslseg.core.settings.networks import Network
from napari_sslseg.core.settings.pretext.sparse_masking import SparseMasking

SIZE = (64, 48)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def task():
    return SparseMasking(patch_size=8).build(SIZE)


@pytest.fixture
def images():
    return 3 + 2 * torch.randn(4, 2, *SIZE, generator=torch.Generator().manual_seed(0))


def draw(task, n=4):
    return task.sample(n, torch.Generator().manual_seed(0))


def wrapped(task):
    torch.manual_seed(0)
    return task.wrap(make_network(Network.preset("tiny"), 2, 2, output_kernel=3))


def test_each_patch_is_normalised_separately():
    images = torch.arange(48.0).view(1, 1, 6, 8)
    mean, deviation = patch_statistics(images, 4)
    patch = images[0, 0, 4:, :4]  # cut off by the border
    assert (mean[0, 0, 4:, :4] == patch.mean()).all()
    torch.testing.assert_close(
        deviation[0, 0, 4:, :4], patch.std(correction=0).expand(2, 4), rtol=1e-5, atol=0
    )
    flat_mean, flat_deviation = patch_statistics(torch.full((1, 1, 5, 30), 7.0), 8)
    assert torch.allclose(flat_mean, torch.tensor(7.0))
    assert torch.allclose(flat_deviation, torch.tensor(1e-3))


def test_the_loss_compares_only_normalised_hidden_patches(task, images):
    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.output = torch.nn.Parameter(torch.zeros_like(images))

        def forward(self, corrupted, visible):
            assert (corrupted.masked_select(~visible) == 0).all()
            return self.output

    model = Fixed()
    parameters = draw(task)
    loss = task.loss(model, images, parameters)
    loss.backward()
    # Compared with 0, each normalised patch has a mean square of 1.
    assert loss.item() == pytest.approx(1, abs=1e-4)
    hidden = task.corruption.mask(parameters)
    assert torch.equal(model.output.grad != 0, hidden.expand_as(images))
    assert (hidden.sum(dim=(1, 2, 3)) == round(0.6 * 48) * 64).all()


def test_a_network_learns_the_task(task, images):
    model = wrapped(task)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    smooth = torch.nn.functional.avg_pool2d(images, 9, 1, 4)
    losses = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        loss = task.loss(model, smooth, task.sample(4, generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])


def test_the_preview_is_on_the_scale_of_the_slices(task, images):
    parameters = draw(task)
    model = wrapped(task).train()
    shown = task.preview(images, parameters, model)
    assert model.training
    hidden = np.broadcast_to(shown.mask, shown.original.shape)
    assert (shown.corrupted[hidden] == 0).all()
    assert np.array_equal(shown.restored[~hidden], shown.original[~hidden])
    mean, deviation = patch_statistics(images, 8)
    with torch.inference_mode():
        output = model.eval()(images, ~torch.from_numpy(shown.mask)) * deviation + mean
    np.testing.assert_allclose(shown.restored[hidden], output.numpy()[hidden], rtol=1e-5, atol=1e-5)
    preview_figure(shown)
    assert task.preview(images, parameters).restored is None


def test_patches_must_be_multiples_of_the_stride():
    task = SparseMasking(patch_size=6).build(SIZE)
    with pytest.raises(ConfigError, match="a multiple of 4"):
        wrapped(task)
