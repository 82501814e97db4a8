"""What the settings of every pretext task say of it."""

from typing import ClassVar

from napari_sslseg.core.settings import Settings


class PretextSettings(Settings):
    """Settings of a pretext task."""

    title: ClassVar[str]
    """Plain words for a clinician."""

    dimensions: ClassVar[tuple[int, ...]] = (2,)
    """2 if the task runs on networks of slices, 3 if on networks of volumes."""

    def on_start(self, started: bool) -> str | None:
        """What is worth knowing of starting from an earlier run, or from scratch: often nothing."""
        return None
