import pytest
import torch
from torch import nn

from napari_sslseg.core.networks.dense3d import DenseUNet3d, ReconstructionDecoder, group_norm
from napari_sslseg.core.settings.networks import Dense3dNetwork


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def net():
    return DenseUNet3d(1, 2, Dense3dNetwork())


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def normed(inputs, outputs, kernel):
    """GroupNorm with two parameters per channel, and convolution without bias."""
    return 2 * inputs + inputs * outputs * kernel**3


def test_the_embedding_of_the_papers_crop_has_28_224_numbers(net):
    with torch.inference_mode():
        features = net.encoder(torch.randn(1, 1, 64, 112, 112))
    assert features[-1].shape[1:] == (144, 4, 7, 7)
    assert features[-1].numel() == 28_224
    assert [tuple(f.shape[1:]) for f in features[:-1]] == [
        (16, 16, 28, 28),
        (16, 8, 14, 14),
        (16, 4, 7, 7),
    ]


def test_blocks_have_2_2_4_and_8_layers_and_these_channels(net):
    assert [len(block.layers) for block in net.encoder.blocks] == [2, 2, 4, 8]
    inputs = [[layer.conv.in_channels for layer in b.layers] for b in net.encoder.blocks]
    # Each layer sees its block's input and the growth of all layers before it.
    assert inputs == [
        [4, 8],
        [16, 32],
        [16, 32, 48, 64],
        [16, 32, 48, 64, 80, 96, 112, 128],
    ]
    assert [block.channels for block in net.encoder.blocks] == [12, 48, 80, 144]


def test_the_parameters_are_those_counted_by_hand(net):
    stem = 27 * 4 + 4
    dense = sum(normed(i, 4, 3) for i in (4, 8))
    dense += sum(normed(16 + 16 * n, 16, 3) for layers in (2, 4, 8) for n in range(layers))
    between = sum(normed(i, 16, 1) + 16 * 16 * 8 + 16 for i in (12, 48, 80))
    assert parameters(net.encoder) == stem + dense + between == 350_400

    def level(inputs, width, outputs):
        up = width * outputs * 8 + outputs
        return normed(inputs, width, 3) + normed(width, width, 3) + up

    # Skips have 16 channels: 160 → 128, up to 64; 80 → 32, up to 16; 32 → 4, up to 4.
    levels = level(160, 128, 64) + level(80, 32, 16) + level(32, 4, 4)
    assert parameters(net.decoder) == levels + 4 * 4 * 8 + 4 == 1_166_832
    assert parameters(net.output) == 4 * 2 + 2
    assert parameters(net) == 1_517_242


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(4, 4), (48, 4), (63, 1), (64, 8), (80, 8), (144, 8), (160, 8), (6, 2), (100, 4), (7, 1)],
)
def test_groups_of_the_norms(channels, groups):
    assert group_norm(channels).num_groups == groups


def test_the_papers_network_has_4_or_8_groups_everywhere(net):
    norms = [m for m in net.modules() if isinstance(m, nn.GroupNorm)]
    assert len(norms) == 16 + 3 + 6  # dense layers, transitions, decoder
    for norm in norms:
        assert norm.num_groups == (4 if norm.num_channels < 64 else 8)


def test_group_norm_is_per_image(net):
    """Each group of each image has mean 0 and deviation 1, independent of other images."""
    norm = net.encoder.blocks[3].layers[7].norm
    for scale in (1.0, 100.0):
        grouped = norm(scale * torch.randn(2, 128, 4, 4, 4) + scale).reshape(2, 8, -1)
        torch.testing.assert_close(grouped.mean(2), torch.zeros(2, 8), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            grouped.std(2, correction=0), torch.ones(2, 8), atol=1e-3, rtol=0
        )


def test_a_dense_layer_keeps_its_input(net):
    block = net.encoder.blocks[1]
    features = torch.randn(1, 16, 4, 4, 4)
    out = block(features)
    assert torch.equal(out[:, :16], features)
    assert torch.equal(out[:, 16:32], block.layers[0](features))
    assert torch.equal(out[:, 32:], block.layers[1](out[:, :32]))


def test_every_skip_reaches_the_output(net):
    features = [f.detach() for f in net.encoder(torch.randn(1, 1, 32, 32, 32))]
    before = net.decoder(features)
    for number in range(4):
        changed = list(features)
        changed[number] = torch.randn_like(changed[number])
        assert not torch.allclose(net.decoder(changed), before), number


def test_the_reconstruction_depends_only_on_the_embedding(net):
    branch = ReconstructionDecoder(Dense3dNetwork(), net.embedding_channels, 1)
    features = [f.detach() for f in net.encoder(torch.randn(1, 1, 32, 48, 32))]
    image = branch(features)
    assert image.shape == (1, 1, 32, 48, 32)
    for number in range(3):
        features[number] = torch.full_like(features[number], torch.nan)
    assert torch.equal(branch(features), image)
    features[3] = -features[3]
    assert not torch.allclose(branch(features), image)
    image.square().mean().backward()
    assert all(p.grad.abs().max() > 0 for p in branch.parameters())
    # 144 → 128, up to 64; 64 → 32, up to 16; 16 → 16, up to 16; up once more; 1³ to the image.
    levels = [(144, 128, 64), (64, 32, 16), (16, 16, 16)]
    by_hand = sum(normed(i, w, 3) + normed(w, w, 3) + w * o * 8 + o for i, w, o in levels)
    assert parameters(branch) == by_hand + 16 * 16 * 8 + 16 + 16 + 1
