"""A GPU that is present but does not work. A PyTorch without CUDA fails at its first operation."""

import pytest
import torch

from napari_sslseg.core.common.compute.devices import (
    device_message,
    gpu_problem,
    make_fabric,
    resolve_device,
)
from napari_sslseg.core.common.errors import ConfigError

pytestmark = pytest.mark.skipif(
    torch.version.cuda is not None or torch.version.hip is not None,
    reason="needs a PyTorch without GPU support, whose GPU operations fail",
)


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """A GPU that the driver reports, but for which PyTorch has no kernels."""
    gpu_problem.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    yield
    gpu_problem.cache_clear()


def test_auto_falls_back_to_the_cpu_and_says_why():
    assert resolve_device("auto").type == "cpu"
    assert make_fabric("auto").device.type == "cpu"
    message = device_message(torch.device("cpu"), "auto", 1)
    assert "does not work" in message
    assert gpu_problem("cuda") in message


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_device_that_was_asked_for_is_refused_with_the_reason(device):
    with pytest.raises(ConfigError, match=r"does not work.*choose auto or cpu"):
        resolve_device(device)


def test_the_cpu_is_not_affected():
    assert resolve_device("cpu").type == "cpu"


def test_the_window_says_why_it_uses_the_cpu():
    from napari_sslseg.gui.pretrain.run_estimate import describe_device

    found = describe_device("auto")
    assert "cuda:0" in found.devices
    assert "does not work" in found.description
