import json
import subprocess
import sys

import pytest
import torch

from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.networks.unet2d import UNet2d
from napari_sslseg.core.runs.weights.checkpoints import (
    load_weights,
    restore,
    save_weights,
    transfer,
)
from napari_sslseg.core.settings.networks import Network

TINY = Network.preset("tiny")


def tensors(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_weights_and_sidecar_are_read_back(tmp_path):
    model = UNet2d(1, 2, TINY)
    path = save_weights(tmp_path / "last.safetensors", model, {"step": 7})
    other = UNet2d(1, 2, TINY)
    restore(other, path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    sidecar = json.loads((tmp_path / "last.json").read_text())
    assert sidecar["step"] == 7
    assert sidecar["tensors"]["output.weight"] == [2, 8, 1, 1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.json", "last.safetensors"]


@pytest.mark.parametrize("parts", ["encoder", "encoder+decoder"])
def test_transfer_copies_the_named_parts_and_lists_every_tensor(parts):
    source, target = UNet2d(1, 1, TINY, output_kernel=3), UNet2d(1, 3, TINY)
    before = tensors(target)
    report = transfer(source.state_dict(), target, parts)
    wanted = tuple(f"{part}." for part in parts.split("+"))
    for name, tensor in target.state_dict().items():
        if name.startswith(wanted):
            assert name in report.copied
            assert torch.equal(tensor, source.state_dict()[name])
        else:
            assert name not in report.copied
            assert torch.equal(tensor, before[name])
    named = set(report.copied) | {n for n, _ in report.skipped} | {n for n, *_ in report.mismatched}
    assert named == set(source.state_dict())
    assert not report.mismatched


def test_a_tensor_of_another_shape_is_reported_and_not_copied():
    source, target = UNet2d(3, 1, TINY), UNet2d(1, 2, TINY)
    before = tensors(target)
    report = transfer(source.state_dict(), target, "encoder")
    assert report.mismatched == (("encoder.levels.0.conv.weight", (8, 3, 3, 3), (8, 1, 3, 3)),)
    assert torch.equal(
        target.state_dict()["encoder.levels.0.conv.weight"], before["encoder.levels.0.conv.weight"]
    )
    assert "1 have another shape" in report.summary()


def test_a_tensor_that_the_source_lacks_is_reported():
    source, target = UNet2d(1, 1, Network(widths=(8, 16), groups=8)), UNet2d(1, 2, TINY)
    report = transfer(source.state_dict(), target, "encoder")
    assert (
        "encoder.levels.2.conv.weight",
        "not in the pretrained weights; keeps its random values",
    ) in report.skipped


def test_weights_that_fit_nothing_are_refused():
    with pytest.raises(CheckpointError, match="None of the pretrained tensors"):
        transfer({"stem.weight": torch.zeros(1)}, UNet2d(1, 2, TINY), "encoder")


def test_weights_of_another_network_are_refused(tmp_path):
    path = save_weights(tmp_path / "a.safetensors", UNet2d(1, 2, TINY), {})
    with pytest.raises(CheckpointError, match="do not fit"):
        restore(UNet2d(1, 3, TINY), path)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text"])
def test_damaged_weights_are_refused(tmp_path, damage):
    path = save_weights(tmp_path / "a.safetensors", UNet2d(1, 2, TINY), {})
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "truncated": content[:-100], "text": b"hello" * 50}[damage])
    with pytest.raises(CheckpointError, match=r"a\.safetensors") as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)


def test_a_full_disk_does_not_damage_the_old_checkpoint(tmp_path):
    model = UNet2d(1, 2, TINY)
    path = save_weights(tmp_path / "last.safetensors", model, {"step": 1})
    before = path.read_bytes()
    script = f"""
import resource, signal
from pathlib import Path
from napari_sslseg.core.runs.weights.checkpoints import save_weights
from napari_sslseg.core.settings.networks import Network
from napari_sslseg.core.common.errors import StorageError
from napari_sslseg.core.networks.unet2d import UNet2d
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    save_weights(Path({str(path)!r}), UNet2d(1, 2, Network.preset("tiny")), {{"step": 2}})
except StorageError as error:
    print("refused:", error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith("refused: Could not write"), done.stderr
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.json", "last.safetensors"]
