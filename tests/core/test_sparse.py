import pytest
import torch
from torch import nn

from napari_sslseg.core.errors import ConfigError
from napari_sslseg.core.masking import GridMask
from napari_sslseg.core.network_config import named_network
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.sparse import SparseNetwork, _at_size, sparse

NETWORKS = ["tiny", "umapathy", "multimix", "dynunet"]
SIZE = (96, 64)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def built(name):
    torch.manual_seed(0)
    return make_network(named_network(name), 1, 1, output_kernel=3)


def masked(n=2):
    grid = GridMask(SIZE, 32, 0.6)
    return ~grid.mask(grid.sample(n, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_hidden_pixels_change_nothing_at_all(name, training):
    network = SparseNetwork(built(name)).train(training)
    visible = masked()
    images = torch.randn(2, 1, *SIZE)
    other = torch.where(visible, images, 100 * torch.randn(2, 1, *SIZE))
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


def test_a_visible_block_does_not_know_of_the_next_one():
    """A plain convolution reaches over the border between them; a hidden row keeps them apart."""
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


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_with_everything_visible_it_is_the_plain_network(name, training):
    plain, network = built(name), SparseNetwork(built(name))
    images = 2 + torch.randn(3, 1, *SIZE)
    everything = torch.ones(3, 1, *SIZE, dtype=torch.bool)
    outputs = []
    for model, inputs in ((plain, (images,)), (network, (images, everything))):
        model.train(training)
        torch.manual_seed(1)
        outputs.append(model(*inputs))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-3, atol=1e-4)
    weights = plain.state_dict()
    for key, tensor in network.state_dict().items():
        if not key.startswith("mask_tokens"):
            # Running averages, too.
            torch.testing.assert_close(tensor, weights[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_state_dict_is_that_of_the_plain_network_and_tokens(name):
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
    ],
)
def test_statistics_come_from_visible_places_alone(norm):
    visible = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    visible[:, :, :, 4:] = True
    # As a sparse convolution leaves it: 0 at hidden places.
    features = (2 + torch.randn(3, 4, 8, 8)) * visible
    with sparse(norm, visible):
        out = norm(features)
    # The visible half alone, through the plain layer.
    expected = type(norm).forward(norm, features[:, :, :, 4:])
    torch.testing.assert_close(out[:, :, :, 4:], expected, rtol=1e-4, atol=1e-5)
    assert (out[:, :, :, :4] == 0).all()


def test_the_encoder_is_plain_again_afterwards():
    network = built("tiny")
    images = torch.randn(1, 1, *SIZE)
    before = network(images)
    with pytest.raises(RuntimeError, match="broken"), sparse(network.encoder, masked(1)):
        raise RuntimeError("broken")
    assert torch.equal(network(images), before)
    assert not any("forward" in vars(module) for module in network.modules())


def test_tokens_stand_at_hidden_places_and_learn():
    network = SparseNetwork(built("tiny"))
    images, visible = torch.randn(2, 1, *SIZE), masked()
    before = network(images, visible)
    before.sum().backward()
    assert all((token.grad != 0).any() for token in network.mask_tokens)
    with torch.no_grad():
        network.mask_tokens[0].add_(1)
    assert not torch.equal(network(images, visible), before)


def test_slices_of_any_size_go_through():
    network = SparseNetwork(built("umapathy")).eval()
    grid = GridMask((80, 48), 32, 0.5)
    visible = ~grid.mask(grid.sample(1, torch.Generator().manual_seed(0)))
    images = torch.randn(1, 1, 80, 48)
    other = torch.where(visible, images, 5.0)
    assert network(images, visible).shape == images.shape
    assert torch.equal(network(images, visible), network(other, visible))


def test_normalisations_that_cannot_leave_pixels_out_are_refused():
    network = built("tiny")
    network.encoder.levels[0].norm = nn.LocalResponseNorm(2)
    with pytest.raises(ConfigError, match="LocalResponseNorm"):
        SparseNetwork(network)
