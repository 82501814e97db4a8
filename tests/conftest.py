"""Fixtures for the whole suite."""

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from patience import LIMIT

# Without a screen Qt aborts the process, so Qt is offscreen; tests of windows are skipped.
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def opens_windows(path: Path) -> bool:
    """Return True for test files that open windows, which take longest and run first."""
    return path.parent.name == "qt" or path.stem == "test_gui_killed"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that open windows first."""
    items.sort(key=lambda item: not opens_windows(item.path))


@pytest.hookimpl(optionalhook=True)
def pytest_xvfb_disable(config: pytest.Config) -> bool:
    """Give each test process its own virtual screen, unless there is no screen at all."""
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
def qtbot(qtbot: Any) -> Any:
    """Give each wait in a window the same limit."""
    qtbot.waitUntil = functools.partial(qtbot.waitUntil, timeout=int(LIMIT * 1000))
    return qtbot


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Use one thread: small networks gain nothing from more, and are slower on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
