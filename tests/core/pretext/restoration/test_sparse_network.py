import pytest
import torch
from torch import nn

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.pretext.corruptions.masks import GridMask
from napari_sslseg.core.pretext.restoration.sparse_network import (
    GroupNormOfVisible,
    SparseNetwork,
    _at_size,
    sparse,
)
from napari_sslseg.core.settings.networks import Dense3dNetwork, DynUNet3dNetwork, named_network

NETWORKS = ["tiny", "umapathy", "multimix", "dynunet", "dynunet3d", "residual3d", "dense3d"]
OF_VOLUMES = {
    "dynunet3d": DynUNet3dNetwork(widths=(4, 6, 8)),
    "residual3d": DynUNet3dNetwork(widths=(4, 6, 8), residual=True),
    "dense3d": Dense3dNetwork(layers=(1, 2, 2), growth=(2, 4, 4), decoder_widths=(8, 4)),
}


pytestmark = pytest.mark.usefixtures("one_thread")


def built(name):
    torch.manual_seed(0)
    network = OF_VOLUMES[name] if name in OF_VOLUMES else named_network(name)
    return make_network(network, 1, 1, output_kernel=3)


def size_for(name):
    return (16, 24, 24) if name in OF_VOLUMES else (96, 64)


def masked(name, n=2):
    grid = GridMask(size_for(name), 8 if name in OF_VOLUMES else 32, 0.6)
    return ~grid.mask(grid.sample(n, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_hidden_pixels_do_not_affect_the_output(name, training):
    network = SparseNetwork(built(name)).train(training)
    visible = masked(name)
    images = torch.randn(2, 1, *size_for(name))
    other = torch.where(visible, images, 100 * torch.randn(images.shape))
    torch.manual_seed(1)  # of dropout
    features = network.encode(images, visible)
    torch.manual_seed(1)
    others = network.encode(other, visible)
    for (one, shown), (two, _) in zip(features, others, strict=True):
        assert torch.equal(one, two)
        hidden = ~_at_size(shown, one).expand_as(one)
        assert (one[hidden] == 0).all()
        assert (one[~hidden] != 0).any()
    network.eval()
    assert torch.equal(network(images, visible), network(other, visible))


def test_a_visible_block_does_not_depend_on_the_next_one():
    """A plain convolution crosses the border between blocks; a hidden row separates them."""
    convolutions = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.Conv2d(4, 2, 3, 1, 1),
    )
    alone = torch.zeros(1, 1, 24, 16, dtype=torch.bool)
    alone[:, :, :8] = True
    both = alone.clone()
    both[:, :, 16:] = True
    images = torch.randn(1, 1, 24, 16)
    outputs = []
    for visible in (alone, both):
        with sparse(convolutions, visible):
            outputs.append(convolutions(images * visible))
    assert torch.equal(outputs[0][:, :, :4], outputs[1][:, :, :4])
    assert (outputs[0][:, :, 4:] == 0).all()
    assert (outputs[1][:, :, 8:] != 0).any()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_visible_patch_does_not_depend_on_hidden_pixels(name):
    """Hidden places affect neither features nor statistics at any level."""
    plain = built(name).eval()
    alone, around = ((8, 16, 16), (16, 24, 32)) if name in OF_VOLUMES else ((64, 32), (96, 64))
    inside = (
        ...,
        *(slice(outer - inner, outer) for inner, outer in zip(alone, around, strict=True)),
    )
    image = 2 + torch.randn(1, 1, *alone)
    surrounded = torch.randn(1, 1, *around)
    surrounded[inside] = image
    visible = torch.zeros(1, 1, *around, dtype=torch.bool)
    visible[inside] = True
    expected = plain.encoder(image)
    found = SparseNetwork(plain).encode(surrounded, visible)
    for wanted, (level, shown) in zip(expected, found, strict=True):
        kept = level[_at_size(shown, level).expand_as(level)]
        torch.testing.assert_close(kept, wanted.flatten(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_without_hidden_places_it_equals_the_plain_network(name, training):
    plain, network = built(name), SparseNetwork(built(name))
    images = 2 + torch.randn(3, 1, *size_for(name))
    everything = torch.ones(images.shape, dtype=torch.bool)
    outputs = []
    for model, inputs in ((plain, (images,)), (network, (images, everything))):
        model.train(training)
        torch.manual_seed(1)
        outputs.append(model(*inputs))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-3, atol=1e-4)
    weights = plain.state_dict()
    for key, tensor in network.state_dict().items():
        if not key.startswith("mask_tokens"):
            # Running averages as well.
            torch.testing.assert_close(tensor, weights[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_state_dict_has_the_plain_names_and_the_tokens(name):
    network = built(name)
    names = set(network.state_dict())
    wrapped = set(SparseNetwork(network).state_dict())
    tokens = {f"mask_tokens.{level}" for level in range(len(network.encoder.channels))}
    assert wrapped == names | tokens


@pytest.mark.parametrize(
    "norm",
    [
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4),
        nn.InstanceNorm2d(4, affine=True),
        nn.BatchNorm2d(4),
        nn.InstanceNorm3d(4, affine=True),
        nn.BatchNorm3d(4),
        nn.GroupNorm(4, 4),
    ],
)
def test_statistics_come_only_from_visible_places(norm):
    volumes = "3d" in type(norm).__name__ or getattr(norm, "num_groups", 0) == 4
    size = (8, 8, 6) if volumes else (8, 8)
    visible = torch.zeros(3, 1, *size, dtype=torch.bool)
    visible[:, :, :, 4:] = True
    # As after a sparse convolution: 0 at hidden places.
    features = (2 + torch.randn(3, 4, *size)) * visible
    with sparse(norm, visible):
        out = norm(features)
    # The plain layer on only the visible half.
    expected = type(norm).forward(norm, features[:, :, :, 4:])
    torch.testing.assert_close(out[:, :, :, 4:], expected, rtol=1e-4, atol=1e-5)
    assert (out[:, :, :, :4] == 0).all()


def test_the_encoder_is_restored_afterwards():
    network = built("tiny")
    images = torch.randn(1, 1, *size_for("tiny"))
    before = network(images)
    with pytest.raises(RuntimeError, match="broken"), sparse(network.encoder, masked("tiny", 1)):
        raise RuntimeError("broken")
    assert torch.equal(network(images), before)
    assert not any("forward" in vars(module) for module in network.modules())


@pytest.mark.parametrize("name", ["tiny", "dynunet3d", "dense3d"])
def test_tokens_fill_hidden_places_and_are_trained(name):
    network = SparseNetwork(built(name))
    images, visible = torch.randn(2, 1, *size_for(name)), masked(name)
    before = network(images, visible)
    before.sum().backward()
    assert all((token.grad != 0).any() for token in network.mask_tokens)
    with torch.no_grad():
        network.mask_tokens[0].add_(1)
    assert not torch.equal(network(images, visible), before)


@pytest.mark.parametrize("name", OF_VOLUMES)
def test_volumes_of_any_size(name):
    network = SparseNetwork(built(name)).eval()
    grid = GridMask((12, 20, 9), 8, 0.5)
    visible = ~grid.mask(grid.sample(1, torch.Generator().manual_seed(0)))
    images = torch.randn(1, 1, 12, 20, 9)
    other = torch.where(visible, images, 5.0)
    assert network(images, visible).shape == images.shape
    assert torch.equal(network(images, visible), network(other, visible))


def test_slices_of_any_size():
    network = SparseNetwork(built("umapathy")).eval()
    grid = GridMask((80, 48), 32, 0.5)
    visible = ~grid.mask(grid.sample(1, torch.Generator().manual_seed(0)))
    images = torch.randn(1, 1, 80, 48)
    other = torch.where(visible, images, 5.0)
    assert network(images, visible).shape == images.shape
    assert torch.equal(network(images, visible), network(other, visible))


def test_unsupported_normalisations_are_refused():
    network = built("tiny")
    network.encoder.levels[0].norm = nn.LocalResponseNorm(2)
    with pytest.raises(ConfigError, match="LocalResponseNorm"):
        SparseNetwork(network)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_gradient_of_the_norm_equals_finite_differences(groups):
    """The backward pass is written by hand, so it is compared with finite differences."""
    generator = torch.Generator().manual_seed(groups)
    shown = (torch.rand(2, 1, 3, 4, generator=generator) > 0.4).double()
    values, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 4, 3, 4), (4,), (4,))
    )

    def norm(values, weight, bias):
        return GroupNormOfVisible.apply(values * shown, shown, weight, bias, groups, 1e-5)

    assert torch.autograd.gradcheck(norm, (values, weight, bias))
