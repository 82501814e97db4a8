"""Options of a run that do not depend on what it trains."""

from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

from napari_sslseg.core.common.errors import PATH, check_type
from napari_sslseg.core.common.events import PauseFlag, StopFlag
from napari_sslseg.core.scans.volume import Modality

if TYPE_CHECKING:
    from napari_sslseg.core.training.watch import Watch


@dataclass(frozen=True, eq=False)
class RunOptions:
    """Options of any run.

    The parameters are those of :func:`~napari_sslseg.core.stages.pretrain.iter_pretrain`.
    """

    device: str = "auto"
    modality: Modality | None = None
    cache: str | Path | None = None
    stop: StopFlag | None = None
    pause: PauseFlag | None = None
    watch: "Watch | None" = None
    threads: int | None = None
    overwrite: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("stop", StopFlag), ("pause", PauseFlag)):
            write = f"{name}=core.{kind.__name__}()"
            check_type(getattr(self, name), (kind, NoneType), name, write)
        for name in ("overwrite", "resume"):
            check_type(getattr(self, name), bool, name, f"{name}=True or {name}=False")
        check_type(self.cache, (*PATH, NoneType), "cache", "a folder, such as cache='slices'")
