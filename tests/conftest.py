"""Fixtures for the whole suite."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Without a screen Qt would end the whole process; window tests then skip by themselves.
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def opens_windows(path: Path) -> bool:
    """Whether a file of tests opens windows; these take longest, so they come first."""
    return path.parent.name == "qt" or path.stem == "test_gui_killed"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that open windows."""
    items.sort(key=lambda item: not opens_windows(item.path))


@pytest.hookimpl(optionalhook=True)
def pytest_xvfb_disable(config: pytest.Config) -> bool:
    """Give each process of tests a screen of its own, unless no window opens on one here."""
    return "DISPLAY" not in os.environ


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each file to one process, in the order of the tests, so that its fixtures run once.

    Groups by marks depend on what plugins come first, and not every pytest keeps them.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return ByFile(config, log)


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
