"""Properties of all networks."""

import pytest
import torch
from torch import nn

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.pretext.pictures.preview import preview
from napari_sslseg.core.runs.weights.checkpoints import (
    load_weights,
    restore,
    save_weights,
    transfer,
)
from napari_sslseg.core.settings.networks import (
    Dense3dNetwork,
    DynUNet2dNetwork,
    DynUNet3dNetwork,
    EfficientNetwork,
    MultiMixNetwork,
    Network,
    UmapathyNetwork,
    check_dimensions,
    check_size,
)

TINY = [
    Network.preset("tiny"),
    UmapathyNetwork(widths=(4, 8, 16)),
    MultiMixNetwork(widths=(4, 8, 16)),
    Dense3dNetwork(layers=(1, 2), growth=(4, 4), decoder_widths=(8,)),
    DynUNet2dNetwork(widths=(4, 8, 16)),
    DynUNet2dNetwork(widths=(4, 8, 16), residual=True),
    DynUNet3dNetwork(widths=(4, 8, 16)),
    EfficientNetwork(decoder_widths=(8, 8, 8, 4)),
]
every = pytest.mark.parametrize("settings", TINY, ids=lambda settings: settings.kind)
SIZES = {2: (32, 48), 3: (8, 12, 16)}


@pytest.fixture(autouse=True)
def _seeded():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def images(settings, n=2, channels=1):
    return torch.randn(n, channels, *SIZES[settings.dimensions])


@every
def test_the_output_has_the_size_of_the_image(settings):
    for kernel in (1, 3):
        net = make_network(settings, 3, 5, output_kernel=kernel)
        assert net.output.kernel_size == (kernel,) * settings.dimensions
        batch = images(settings, channels=3)
        assert net(batch).shape == (2, 5, *batch.shape[2:])


@every
def test_sizes_that_are_not_multiples_are_padded_with_the_last_rows(settings):
    net = make_network(settings, 1, 2).eval()
    odd = images(settings)[..., :-3]
    with torch.inference_mode():
        scores = net(odd)
        assert scores.shape[2:] == odd.shape[2:]
        last = odd[..., -1:]
        repeated = torch.cat([odd, last, last, last], dim=-1)
        torch.testing.assert_close(scores, net(repeated)[..., :-3])


@every
def test_the_smallest_image_in_training(settings):
    """Norms cannot normalise over a single position at the coarsest level."""
    net = make_network(settings, 1, 2)
    small = torch.randn(1, 1, *[1] * settings.dimensions)
    assert net(small).isfinite().all()


@every
def test_channels_and_sizes_of_features_and_levels(settings):
    net = make_network(settings, 1, 2)
    batch = images(settings)
    features = net.encoder(batch)
    assert tuple(f.shape[1] for f in features) == net.encoder.channels
    assert net.embedding_channels == features[-1].shape[1]
    sizes = [f.shape[2] for f in features]
    assert sizes == sorted(sizes, reverse=True)
    assert [n * settings.stride for n in features[-1].shape[2:]] == list(batch.shape[2:])
    assert net.stride == settings.stride
    assert net.decoder(features, 0) is features[-1]
    side = features[-1].shape[2]
    for level, channels in enumerate(net.decoder.channels, start=1):
        decoded = net.decoder(features, level)
        side *= 2
        assert decoded.shape[1:3] == (channels, side)
    full = net.decoder(features)
    assert full.shape[2:] == batch.shape[2:]
    assert full.shape[1] == net.decoder.channels[-1]
    for wrong in (-1, len(net.decoder.channels) + 1):
        with pytest.raises(ValueError, match="levels must lie within"):
            net.decoder(features, wrong)


@every
def test_a_partial_decoder_equals_the_first_levels_of_the_whole(settings):
    net = make_network(settings, 1, 2).eval()
    features = net.encoder(images(settings))
    seen = []
    hook = net.decoder.levels[0].register_forward_hook(lambda *call: seen.append(call[2]))
    net.decoder(features)
    hook.remove()
    torch.testing.assert_close(net.decoder(features, 1), seen[0], rtol=0, atol=0)


@every
def test_the_network_applies_encoder_decoder_and_output(settings):
    net = make_network(settings, 1, 2).eval()
    batch = images(settings)
    parts = net.output(net.decoder(net.encoder(batch)))
    torch.testing.assert_close(net(batch), parts, rtol=0, atol=0)
    assert {name.split(".")[0] for name in net.state_dict()} == {"encoder", "decoder", "output"}


@every
def test_every_parameter_gets_a_gradient(settings):
    # In double precision a bias before a norm would have a gradient of about 1e-15.
    net = make_network(settings, 1, 2).double()
    scores = net(images(settings).double())
    (scores * torch.randn_like(scores)).mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        # Blocks of an EfficientNet end without an activation, so that the next normalisation
        # removes the bias of the last one.
        removed = settings.kind == "efficientnet" and name.endswith("._bn2.bias")
        assert removed or parameter.grad.abs().max() > 1e-8, name


@every
def test_images_of_a_batch_do_not_mix_in_evaluation(settings):
    net = make_network(settings, 1, 2).eval()
    batch = images(settings, 3)
    torch.testing.assert_close(net(batch)[1:2], net(batch[1:2]), atol=1e-5, rtol=1e-4)


@every
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_half_precision_is_finite(settings, scale):
    net = make_network(settings, 1, 2)
    # On the CPU, gradients of PyTorch 2.13 for the weights of a 3D convolution in bfloat16
    # contain uninitialised memory if its features have fewer than about 30 voxels.
    size = SIZES[2] if settings.dimensions == 2 else (16, 16, 32)
    batch = scale * torch.randn(2, 1, *size)
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            scores = net(batch)
            odd = net(batch[..., :-1])
        assert scores.isfinite().all()
        assert odd.isfinite().all()
        scores.float().square().mean().backward()
        assert all(p.grad.isfinite().all() for p in net.parameters())


@every
@pytest.mark.parametrize("parts", ["encoder", "encoder+decoder"])
def test_parts_are_transferred_to_a_network_with_another_output(settings, parts, tmp_path):
    source = make_network(settings, 1, 1, output_kernel=3)
    source(images(settings))  # moves the statistics of BatchNorm
    path = save_weights(tmp_path / "a.safetensors", source, {})
    target = make_network(settings, 1, 4)
    report = transfer(load_weights(path), target, parts)
    wanted = tuple(f"{part}." for part in parts.split("+"))
    theirs, ours = source.state_dict(), target.state_dict()
    assert set(report.copied) == {name for name in theirs if name.startswith(wanted)}
    assert all(torch.equal(theirs[name], ours[name]) for name in report.copied)
    assert not report.mismatched
    batch = images(settings)
    for one, two in zip(source.eval().encoder(batch), target.eval().encoder(batch), strict=True):
        assert torch.equal(one, two)
    same = make_network(settings, 1, 1, output_kernel=3)
    restore(same, path)
    assert torch.equal(same.eval()(batch), source(batch))


@every
def test_only_batch_norm_keeps_averages(settings):
    """GroupNorm and InstanceNorm use the current image, in training and evaluation."""
    net = make_network(settings, 1, 2)
    buffers = {name.rsplit(".", 1)[1] for name, _ in net.named_buffers()}
    if settings.kind in ("umapathy", "efficientnet"):
        assert buffers == {"running_mean", "running_var", "num_batches_tracked"}
        return
    assert not buffers
    for dropout in (m for m in net.modules() if isinstance(m, nn.Dropout)):
        dropout.p = 0.0
    batch = images(settings)
    trained = net.train()(batch)
    torch.testing.assert_close(net.eval()(batch), trained, rtol=0, atol=0)


@every
def test_an_invalid_size_is_refused_with_a_valid_one(settings):
    step, axes = settings.stride, settings.dimensions
    check_size(settings, (2 * step,) * axes)
    check_size(settings, (step,) * (axes - 1) + (2 * step,))
    with pytest.raises(ConfigError) as caught:
        check_size(settings, (2 * step - 1,) * axes)
    fitting = " × ".join([str(2 * step)] * axes)
    assert str(caught.value).endswith(f"choose {fitting}.")
    with pytest.raises(ConfigError, match=f"{2 * step}, not {step}"):
        check_size(settings, (step,) * axes)
    with pytest.raises(ConfigError, match=f"{settings.kind} takes"):
        check_size(settings, (2 * step,) * (5 - axes))


def test_the_papers_networks_need_multiples_of_16_and_32():
    assert Network.preset("paper").stride == 16
    assert UmapathyNetwork().stride == 32
    assert MultiMixNetwork().stride == 16
    assert Dense3dNetwork().stride == 16
    assert DynUNet2dNetwork().stride == DynUNet3dNetwork().stride == 16
    assert EfficientNetwork().stride == 16
    with pytest.raises(ConfigError, match=r"32.*240 × 208.*256 × 224"):
        check_size(UmapathyNetwork(), (240, 208))


def test_networks_of_volumes_are_refused_for_slices():
    check_dimensions(Network(), 2)
    check_dimensions(DynUNet3dNetwork(), 3)
    with pytest.raises(ConfigError, match=r"dense3d.*tiny, small, paper, umapathy, m"):
        check_dimensions(Dense3dNetwork(), 2)


def training(steps):
    return core.Training(steps=steps, batch_size=2, learning_rate=3e-3, seed=0)


def patient(shape, spacing):
    return core.LabelledScan(*core.make_patient(0, "MR", shape, spacing))


@pytest.mark.parametrize(
    "settings",
    [
        Network.preset("tiny"),
        # As deep as in the paper; 80 × 96 pixels are not multiples of its stride of 32.
        UmapathyNetwork(widths=(4, 4, 8, 8, 8, 8)),
        MultiMixNetwork(widths=(4, 8, 8, 8, 16)),
        DynUNet2dNetwork(widths=(4, 8, 16)),
        EfficientNetwork(decoder_widths=(8, 8, 8, 4)),
    ],
    ids=lambda settings: settings.kind,
)
def test_pretraining_fine_tuning_and_prediction_on_phantom_slices(settings, tmp_path):
    item = patient((8, 72, 88), (24.0, 5.0, 4.0))
    pretrained = core.pretrain(
        [item.scan],
        core.ContextRestoration(patch_size=8),
        out=tmp_path / "pre",
        settings=core.PretrainSettings(network=settings, training=training(2)),
    )
    finetune = core.FinetuneSettings(training=training(4), transfer="encoder+decoder")
    run = core.finetune([item], init=pretrained, out=tmp_path / "ft", settings=finetune)
    assert run.record["settings"]["network"]["kind"] == settings.kind
    losses = [row["loss"] for row in run.metrics() if "loss" in row]
    assert len(losses) == 4
    copied = run.record["transfer"]["copied"]
    assert {name.split(".")[0] for name in copied} == {"encoder", "decoder"}
    before, after = load_weights(pretrained.weights), load_weights(run.weights)
    assert not any(torch.equal(before[n], after[n]) for n in copied if n.endswith("weight"))
    prediction = core.predict(run, item.scan)
    assert prediction.labels.shape == (8, 72, 88)
    assert prediction.uncertainty.max() <= 1
    restored = preview(item.scan, init=pretrained).restored
    assert restored.shape[2:] == (80, 96)


@pytest.mark.parametrize("settings", [Dense3dNetwork(), DynUNet3dNetwork()], ids=lambda s: s.kind)
def test_fine_tuning_on_slices_refuses_a_network_of_volumes(settings, tmp_path):
    stage = core.FinetuneSettings(
        network=settings, preprocessing=core.Preprocessing(), training=training(1)
    )
    with pytest.raises(ConfigError, match=f"{settings.kind} takes volumes"):
        core.finetune([patient((8, 40, 48), (24.0, 9.0, 7.5))], out=tmp_path / "ft", settings=stage)
