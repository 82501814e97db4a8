"""Weights of an EfficientNet of other programs: ImageNet's from their package, and from files."""

import shutil

import pytest
import torch
from monai.networks.nets.efficientnet import EfficientNet
from torch.nn import functional

from napari_sslseg import core
from napari_sslseg.core.common.errors import CheckpointError, ConfigError
from napari_sslseg.core.common.events import Message, Step, StopFlag
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.networks.efficient import BLOCKS, NORM
from napari_sslseg.core.runs.weights import imagenet
from napari_sslseg.core.runs.weights.checkpoints import load_weights
from napari_sslseg.core.runs.weights.foreign import read_foreign
from napari_sslseg.core.settings.networks import EfficientNetwork, named_network

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = EfficientNetwork(start="imagenet", decoder_widths=(8, 8, 8, 4))
STEM = "encoder.levels.0.stem.conv.weight"


@pytest.fixture(scope="module")
def original():
    """Tensors of the package by their names in it."""
    return read_foreign(imagenet.imagenet_file()).tensors


def filled(channels):
    network = make_network(SMALL, channels, 2)
    weights = imagenet.imagenet_weights(SMALL, channels)
    network.load_state_dict(network.state_dict() | weights)
    return network.eval()


def whole(tensors):
    """EfficientNet-Lite0 of MONAI, with the tensors of the package."""
    net = EfficientNet(
        list(BLOCKS), spatial_dims=2, in_channels=3, norm=NORM, drop_connect_rate=0.0
    )
    for module in net.modules():
        if hasattr(module, "_swish"):
            module._swish = torch.nn.ReLU6()
    nested = {}
    for name in net.state_dict():
        first, *rest = name.split(".")
        # MONAI names the stage as well as the number of the block.
        nested[name] = tensors[".".join([first, *rest[1:]]) if first == "_blocks" else name]
    net.load_state_dict(nested)
    return net.eval()


@torch.inference_mode()
def test_the_encoder_equals_the_original(original):
    net = whole(original)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    large = functional.interpolate(images, scale_factor=2.0, mode="bilinear")
    expected = net._blocks(net._swish(net._bn0(net._conv_stem(net._conv_stem_padding(large)))))
    assert torch.equal(filled(3).encoder(images)[-1], expected)


@torch.inference_mode()
@pytest.mark.parametrize("channels", [1, 5])
def test_other_channels_give_the_features_of_equal_colours(channels):
    image = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    colours, ours = image.repeat(1, 3, 1, 1), image.repeat(1, channels, 1, 1)
    for one, two in zip(filled(3).encoder(colours), filled(channels).encoder(ours), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def timm_names(monai):
    """Names of timm for names of MONAI, as in timm's EfficientNet."""
    inner = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"}
    inner |= {"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    starts = (0, 1, 3, 5, 8, 11, 15)
    found = {}
    for name in monai:
        part, *rest = name.split(".")
        if part == "_blocks":
            stage, number, layer, leaf = rest
            layer = (inner if int(stage) else first)[layer]
            found[name] = f"blocks.{stage}.{int(number) - starts[int(stage)]}.{layer}.{leaf}"
        else:
            found[name] = ".".join([outer.get(part, "classifier"), *rest])
    return found


@pytest.mark.parametrize("program", ["efficientnet-pytorch", "monai", "timm"])
def test_files_of_three_programs_are_imported(original, program, tmp_path):
    tensors = dict(original)
    if program != "efficientnet-pytorch":
        tensors = whole(original).state_dict()
    if program == "timm":
        names = timm_names(tensors)
        tensors = {names[name]: tensor for name, tensor in tensors.items()}
    torch.save(tensors, tmp_path / "lite.pth")
    run = core.import_weights(tmp_path / "lite.pth", network="efficientnet", out=tmp_path / "run")
    weights = load_weights(run.weights)
    ours = imagenet.imagenet_weights(EfficientNetwork(start="imagenet"), 1)
    assert weights.keys() == ours.keys()
    assert all(torch.equal(weights[name], ours[name]) for name in ours)
    how = {item["as"]: item["by"] for item in run.record["transfer"]["copied"]}
    assert how[STEM] == "the mean over its channels"
    assert all(item["reason"] for item in run.record["transfer"]["skipped"])


def test_weights_of_another_encoder_do_not_fit(original, tmp_path):
    torch.save(dict(original), tmp_path / "lite.pth")
    with pytest.raises(CheckpointError, match="fits the encoder of the network dynunet2d"):
        core.import_weights(tmp_path / "lite.pth", network="dynunet", out=tmp_path / "run")


def patient():
    return core.LabelledScan(*core.make_patient(0, "MR", (8, 40, 48), (24.0, 9.0, 7.5)))


def settings(steps, network=SMALL):
    training = core.Training(steps=steps, batch_size=2, learning_rate=1e-9, seed=0)
    return core.FinetuneSettings(network=network, training=training)


def messages(events):
    return " ".join(event.text for event in events if isinstance(event, Message))


def test_a_training_starts_from_the_weights_and_says_so(original, tmp_path):
    events = list(
        core.iter_finetune([patient()], out=tmp_path / "run", settings=settings(1), device="cpu")
    )
    text = messages(events)
    assert "ImageNet" in text
    assert "Apache-2.0" in text
    assert "1 channel" in text
    run = core.Run.open(tmp_path / "run")
    assert imagenet.PACKAGE in run.record["encoder_weights"]
    assert len(run.record["transfer"]["copied"]) == 288
    stem = load_weights(run.weights)[STEM]
    torch.testing.assert_close(stem[:, 0], original["_conv_stem.weight"].sum(1))


def test_a_pretraining_goes_on_from_them_and_a_fine_tuning_from_the_pretraining(tmp_path):
    training = core.Training(steps=1, batch_size=2, learning_rate=1e-9, seed=0)
    pretrained = core.pretrain(
        [patient().scan],
        core.ContextRestoration(patch_size=8),
        out=tmp_path / "pre",
        settings=core.PretrainSettings(network=SMALL, training=training),
    )
    assert imagenet.PACKAGE in pretrained.record["encoder_weights"]
    finetune = core.FinetuneSettings(training=training)
    run = core.finetune([patient()], init=pretrained, out=tmp_path / "ft", settings=finetune)
    assert "encoder_weights" not in run.record
    assert run.record["init"] == "pre"


def test_strategies_for_pretrained_encoders_work_from_them(tmp_path):
    frozen = settings(2).model_copy(update={"strategy": "frozen-encoder"})
    run = core.finetune([patient()], out=tmp_path / "run", settings=frozen)
    name = "encoder.levels.4.15._project_conv.weight"
    ours = imagenet.imagenet_weights(SMALL, 1)
    assert torch.equal(load_weights(run.weights)[name], ours[name])
    random = frozen.model_copy(update={"network": EfficientNetwork(decoder_widths=(8, 8, 8, 4))})
    with pytest.raises(ConfigError, match="frozen"):
        core.finetune([patient()], out=tmp_path / "no", settings=random)


def test_without_the_package_it_is_named_and_a_run_is_resumed_all_the_same(tmp_path, monkeypatch):
    stop = StopFlag()
    for event in core.iter_finetune(
        [patient()], out=tmp_path / "run", settings=settings(4), stop=stop, device="cpu"
    ):
        if isinstance(event, Step):
            stop.set()
    monkeypatch.setattr(imagenet, "MODULE", "no_such_module")
    with pytest.raises(ConfigError, match=imagenet.PACKAGE):
        core.finetune([patient()], out=tmp_path / "other", settings=settings(1))
    run = core.finetune([patient()], out=tmp_path / "run", resume=True)
    assert run.record["status"] == "finished"


def test_a_stopped_training_continues_exactly(tmp_path):
    """The layout of the weights in memory is not that of the files."""
    network = EfficientNetwork(decoder_widths=(8, 8, 8, 4))
    training = core.Training(steps=6, batch_size=2, learning_rate=1e-3, seed=0)
    asked = core.FinetuneSettings(network=network, training=training, average_decay=0.9)
    whole = core.finetune([patient()], out=tmp_path / "whole", settings=asked, device="cpu")
    stop = StopFlag()
    for event in core.iter_finetune(
        [patient()], out=tmp_path / "run", settings=asked, stop=stop, device="cpu"
    ):
        if isinstance(event, Step) and event.step == 3:
            stop.set()
    run = core.finetune([patient()], out=tmp_path / "run", resume=True, device="cpu")
    assert run.weights.read_bytes() == whole.weights.read_bytes()


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_file_of_the_package_is_refused(tmp_path, monkeypatch, damage):
    folder = tmp_path / "damaged_weights"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('code was run')\n")
    copy = folder / "models" / "lite.pth"
    shutil.copy(imagenet.imagenet_file(), copy)
    if damage == "cut":
        copy.write_bytes(copy.read_bytes()[:-1000])
    else:
        torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, copy)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imagenet, "MODULE", folder.name)
    with pytest.raises(CheckpointError, match=r"lite\.pth"):
        imagenet.imagenet_weights(SMALL, 1)


def test_only_the_encoder_with_weights_starts_from_imagenet():
    assert named_network("efficientnet-imagenet").pretrained
    assert not named_network("efficientnet").pretrained
    with pytest.raises(ValueError, match="efficientnet-b0"):
        EfficientNetwork(encoder="efficientnet-b0", start="imagenet")
    with pytest.raises(ConfigError, match="efficientnet"):
        named_network("efficientnet-lite")
