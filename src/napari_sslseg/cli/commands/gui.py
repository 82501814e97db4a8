"""Command: open napari with the panel for few-shot segmentation."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sslseg.core.common.errors import ConfigError

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project

INSTALL = 'run: pip install "napari-sslseg[all]"'


def gui(
    folder: Annotated[Path | None, typer.Argument(help="Project to open.")] = None,
) -> None:
    """Open napari with the panel "Few-shot segmentation", and a project in it."""
    from napari_sslseg.core.project.project import Project

    _check_window()
    project = Project.open(folder) if folder is not None else None
    _show(project)


def _check_window() -> None:
    """Raise a ConfigError if no window can be opened."""
    try:
        import napari  # noqa: F401
        from qtpy import QtWidgets  # noqa: F401
    except ImportError as error:
        # The error of qtpy, if there is no Qt binding, names no module.
        missing = getattr(error, "name", None) or "Qt (PySide6 or PyQt6)"
        raise ConfigError(f"napari cannot open a window without {missing}; {INSTALL}.") from error
    # Qt itself would abort the process, which cannot be caught.
    screen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if sys.platform == "linux" and not screen and not os.environ.get("QT_QPA_PLATFORM"):
        raise ConfigError(
            "There is no screen to open a window on; log in to a desktop, or use the other "
            "commands, which need no screen."
        )


def _show(project: "Project | None") -> None:
    import napari

    viewer = napari.Viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-sslseg", "Few-shot segmentation")
    if project is not None:
        widget.session.take(project)
    napari.run()
