"""Options of a run that do not depend on what it trains."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
