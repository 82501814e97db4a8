from typing import ClassVar, Literal

import pytest
from pydantic import Field, ValidationError
from torch import nn

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.settings_base import make_settings
from napari_sslseg.core.networks.parts import (
    Decoder,
    Encoder,
    EncoderDecoder,
    concatenate,
    output_layer,
)
from napari_sslseg.core.settings.networks import (
    NETWORKS,
    BaseNetwork,
    LevelledNetwork,
    check_dimensions,
    named_network,
)
from napari_sslseg.core.settings.presets.preset import Preset, Stage
from napari_sslseg.core.settings.presets.registry import PRESETS, preset_named
from small_scans import write_small_scans


class Up(nn.Module):
    """Upsampling, concatenation with the encoder features, and a convolution."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2)
        self.conv = nn.Conv2d(inputs + outputs, outputs, 3, padding=1)

    def forward(self, features, skip):
        return self.conv(concatenate(self.up(features), skip))


def make_toy(in_channels, out_channels, settings, output_kernel=1):
    """A U-Net of single convolutions."""
    first, last = settings.widths
    return EncoderDecoder(
        Encoder(
            [nn.Conv2d(in_channels, first, 3, padding=1), nn.Conv2d(first, last, 3, padding=1)],
            settings.widths,
        ),
        Decoder([Up(last, first)], (first,)),
        output_layer(2, first, out_channels, output_kernel),
        settings.stride,
    )


class ToyNetwork(LevelledNetwork):
    """Settings of the toy network."""

    title: ClassVar[str] = "Toy"
    implementation: ClassVar = make_toy
    kind: Literal["toy"] = "toy"
    widths: tuple[int, ...] = Field((4, 8), min_length=2, max_length=2)


@pytest.fixture
def toy():
    """Register the network; undone at the end of the test."""
    core.register_network("toy", ToyNetwork())
    yield ToyNetwork(widths=(3, 6))
    del NETWORKS["toy"]


@pytest.fixture
def toy_preset(toy):
    """Register a preset; undone at the end of the test."""
    training = core.Training(steps=2, batch_size=4)
    preset = Preset(
        name="toy-2026",
        title="Toy",
        paper="Nobody 2026",
        reference="Nobody 2026, A toy",
        summary="Patches change places.",
        network=toy,
        mr=core.Preprocessing(),
        ct=core.Preprocessing(modality="CT"),
        stages=(
            Stage(
                task="context-restoration",
                options={"patch_size": 8},
                settings=core.PretrainSettings(training=training),
            ),
        ),
        finetuning=core.FinetuneSettings(training=training),
        decisions=(),
    )
    core.register_preset(preset)
    yield preset
    del PRESETS["toy-2026"]


def patient():
    return core.make_patient(0, "MR", (12, 48, 48), (16.0, 7.5, 7.5))


def test_an_external_network_trains_and_predicts(toy, tmp_path):
    scans = write_small_scans(tmp_path / "scans", 1)
    settings = core.PretrainSettings(network=toy, training=core.Training(steps=2, batch_size=4))
    run = core.pretrain(scans, out=tmp_path / "first", settings=settings)
    again = core.Run.open(run.folder, "pretrain").settings(core.PretrainSettings)
    assert again.network == toy
    assert type(again.network) is ToyNetwork
    scan, labels = patient()
    tuned = core.finetune(
        [core.LabelledScan(scan, labels)],
        init=run,
        out=tmp_path / "tuned",
        settings=core.FinetuneSettings(training=core.Training(steps=2, batch_size=4)),
    )
    assert core.Run.open(tuned.folder).settings(core.FinetuneSettings).network == toy
    assert core.predict(tuned, scan).labels.shape == scan.data.shape


def test_an_external_preset_trains(toy_preset, tmp_path):
    scans = write_small_scans(tmp_path / "scans", 1)
    run = core.pretrain_preset(scans, "toy-2026", out=tmp_path / "first")
    assert run.settings(core.PretrainSettings).preset == "toy-2026"
    assert run.task().patch_size == 8
    scan, labels = patient()
    tuned = core.finetune_preset(
        [core.LabelledScan(scan, labels)], "toy-2026", init=run, out=tmp_path / "tuned"
    )
    assert tuned.settings(core.FinetuneSettings).network == toy_preset.network
    assert Preset.model_validate_json(toy_preset.model_dump_json()) == toy_preset


def test_registered_names_are_listed(toy):
    assert named_network("toy") == ToyNetwork()
    with pytest.raises(ConfigError, match="dynunet3d or toy"):
        named_network("unet")
    with pytest.raises(ConfigError, match=r"dense3d.*tiny.*toy"):
        check_dimensions(core.Dense3dNetwork(), 2)


@pytest.mark.parametrize("kind", ["resnet", None, 3])
@pytest.mark.parametrize("stage", [core.PretrainSettings, core.FinetuneSettings])
def test_an_unknown_kind_is_refused_with_those_that_are_known(stage, kind):
    with pytest.raises(ConfigError, match=r"network.*unet2d, umapathy, .*dynunet3d") as error:
        make_settings(stage, network={"kind": kind})
    assert "\n" not in str(error.value)


def test_an_error_within_a_network_names_its_field():
    with pytest.raises(ConfigError, match=r"network\.groups") as error:
        make_settings(core.PretrainSettings, network={"kind": "unet2d", "groups": 0})
    assert "\n" not in str(error.value)
    with pytest.raises(ValidationError, match="widths"):
        core.PretrainSettings.model_validate({"network": {"kind": "unet2d", "widths": [0, 1]}})


def test_names_and_kinds_are_registered_once(toy):
    core.register_network("toy", ToyNetwork())
    with pytest.raises(ConfigError, match="small"):
        core.register_network("small", ToyNetwork())

    class Other(BaseNetwork):
        kind: Literal["unet2d"] = "unet2d"
        title: ClassVar[str] = "Another"

    with pytest.raises(ConfigError, match="unet2d"):
        core.register_network("other", Other())
    assert "other" not in NETWORKS


def test_an_unknown_preset_is_refused_with_all_names(toy_preset):
    with pytest.raises(ConfigError, match=r"jigsaw.*dominic-2023.*toy-2026"):
        preset_named("jigsaw")
    with pytest.raises(ConfigError, match="toy-2026"):
        core.register_preset(toy_preset.model_copy(update={"title": "Another"}))
