import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from napari_sslseg.cli.settings import NetworkOptions
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.settings_base import make_settings
from napari_sslseg.core.settings.networks import (
    NETWORK_WIDTHS,
    NETWORKS,
    Dense3dNetwork,
    DynUNet2dNetwork,
    DynUNet3dNetwork,
    EfficientNetwork,
    MultiMixNetwork,
    Network,
    NetworkSettings,
    UmapathyNetwork,
    named_network,
)
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings

ALL = [
    Network(),
    UmapathyNetwork(),
    MultiMixNetwork(),
    Dense3dNetwork(),
    DynUNet2dNetwork(),
    DynUNet3dNetwork(),
    EfficientNetwork(start="imagenet"),
]


@pytest.mark.parametrize("network", ALL, ids=lambda network: network.kind)
def test_settings_are_read_back_from_the_record_of_a_run(network):
    for stage in (PretrainSettings, FinetuneSettings):
        settings = stage(network=network)
        again = stage.model_validate_json(settings.model_dump_json())
        assert type(again.network) is type(network)
        assert again == settings


@pytest.mark.parametrize("network", ALL, ids=lambda network: network.kind)
def test_every_setting_has_a_title_and_a_description(network):
    for name, field in type(network).model_fields.items():
        if name != "kind":
            assert field.title, name
            assert field.description, name


def test_a_run_of_the_first_version_loads():
    """As version 0.1 wrote it."""
    record = {"kind": "unet2d", "widths": [16, 32, 64, 128], "groups": 8}
    assert FinetuneSettings.model_validate({"network": record}).network == Network.preset("small")


@pytest.mark.parametrize("name", NETWORKS)
def test_names_of_the_command_line(name):
    network = NetworkOptions(name).chosen_network()
    assert network == named_network(name)
    assert network.dimensions == (3 if name.endswith("3d") else 2)
    if name in NETWORK_WIDTHS:
        assert network == Network.preset(name)
        assert network.widths == NETWORK_WIDTHS[name]


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"\bunet\b.*tiny, small, paper, u"):
        NetworkOptions("unet").chosen_network()


@pytest.mark.parametrize(
    ("model", "values", "reason"),
    [
        (UmapathyNetwork, {"widths": (16, 0)}, "Widths must lie within 1…2048"),
        (MultiMixNetwork, {"dropout": 1.0}, "less than 1"),
        (Dense3dNetwork, {"growth": (4, 16)}, "one number for each of the 4 blocks"),
        (Dense3dNetwork, {"decoder_widths": (4,)}, "needs 3 numbers"),
        (Dense3dNetwork, {"layers": (2, 2, 4, 0)}, "Layers must lie within 1…64"),
        (DynUNet2dNetwork, {"widths": (8, 16)}, "at least 3"),
        (DynUNet3dNetwork, {"groups": 8}, "no setting groups"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(model, values, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        make_settings(model, **values)
    assert "\n" not in str(caught.value)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValidationError, match="'kind'"):
        TypeAdapter(NetworkSettings).validate_python({"kind": "resnet"})


@pytest.mark.parametrize(
    "module", ["settings.networks", "settings.stages", "networks.build", "networks.base"]
)
def test_settings_and_factory_load_no_torch(module):
    code = (
        f"import sys, napari_sslseg.core.{module}\n"
        "print(sorted({'torch', 'monai'} & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
