"""What the settings of every pretext task say of it."""

from collections.abc import Iterable
from typing import ClassVar, Self

from napari_sslseg.core.common.frozen import Settings


class PretextSettings(Settings):
    """Settings of a pretext task."""

    title: ClassVar[str]
    """Plain words for a clinician."""

    dimensions: ClassVar[tuple[int, ...]] = (2,)
    """2 if the task runs on networks of slices, 3 if on networks of volumes."""

    def on_start(self, started: bool) -> str | None:
        """What is worth knowing of starting from an earlier run, or from scratch: often nothing."""
        return None

    compares_scans: ClassVar[bool] = False
    """Whether its examples are drawn from several scans, which one scan cannot show."""

    def for_scans(self, names: Iterable[str]) -> Self:
        """Give the task for other scans: without what it says of scans that are not named.

        Raises
        ------
        DataError
            If nothing is left that it needs to know.
        """
        return self
