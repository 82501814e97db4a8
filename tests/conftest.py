"""Fixtures for the whole suite."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Without a screen Qt would end the whole process; window tests then skip by themselves.
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


WINDOWS = "qt"
"""Folder of the tests that open windows, which share one screen and one keyboard focus."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests of a file in one process, and all that open windows, which begin first."""

    def group(item: pytest.Item) -> str:
        folder = item.path.parent.name
        window = folder == WINDOWS or item.path.stem == "test_gui_killed"
        return WINDOWS if window else item.path.stem

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: group(item) != WINDOWS)


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
