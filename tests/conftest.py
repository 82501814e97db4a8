"""Fixtures for the whole suite."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Without a screen Qt would end the whole process; window tests then skip by themselves.
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real scans; where there is none, skip, but fail under CI, which must have it."""
    named = os.environ.get("NAPARI_SSLSEG_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        reason = f"no real scans in {folder}; set NAPARI_SSLSEG_DATA to their folder"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from more, and lose much where the machine is busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
