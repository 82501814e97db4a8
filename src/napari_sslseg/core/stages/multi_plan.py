"""Plan of a run of several stages, checked when it is read, since it may be untrusted.

Loads no PyTorch.
"""

import uuid
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_sslseg.core.common.errors import CheckpointError, ConfigError
from napari_sslseg.core.common.safe_json import StoredPath, read_json
from napari_sslseg.core.common.text import LONGEST, printable
from napari_sslseg.core.runs.record import MOST_RECORD, PLAN, first_problem
from napari_sslseg.core.settings.presets.preset import Preset
from napari_sslseg.core.settings.pretext.registry import TaskSettings

FORMAT: Literal[2] = 2
MOST_STAGES = 3


class PlanStart(BaseModel):
    """Run that the first stage starts from; its folder is relative to that of the plan."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    folder: StoredPath
    weights: str = Field(pattern=r"^([0-9a-f]{32})?$", description="Hash of the weights file.")


class StagePlan(BaseModel):
    """What a run of several stages stores in addition to the records of its stages."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    format: Literal[2] = FORMAT
    id: str = Field(default_factory=lambda: uuid.uuid4().hex, pattern=r"^[0-9a-f]{32}$")
    preset: Preset
    kind: Literal["MR", "CT"] | None = Field(
        description="Modality of the preprocessing; none if that of the start is used."
    )
    modality: Literal["MR", "CT"] | None = Field(
        description="Modality of all scans, if it was given."
    )
    start: PlanStart | None
    scans: list[str] = Field(min_length=1, description="Names of the scans.")
    threads: int = Field(ge=1, le=4096)
    overwrite: bool

    @cached_property
    def tasks(self) -> list[TaskSettings]:
        """Pretext task of each stage.

        Raises
        ------
        ConfigError
            If the options of a task are impossible.
        """
        return [stage.make_task() for stage in self.preset.stages]


def _is_path(text: str) -> bool:
    # Names that are not UTF-8 are allowed, control characters are not.
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").isprintable()


def read_plan(folder: Path) -> StagePlan:
    """Read the plan of a run folder.

    Raises
    ------
    CheckpointError
        If it is damaged, or of another version.
    """
    path = folder / PLAN
    again = "start again with --overwrite (in Python overwrite=True)."
    try:
        values = read_json(path, MOST_RECORD)
        number = values.get("format") if isinstance(values, dict) else None
        if isinstance(number, int) and number != FORMAT:
            age = "a newer" if number > FORMAT else "an older"
            raise CheckpointError(
                f"{path} was written by {age} version, so the run cannot be resumed; {again}"
            )
        plan = StagePlan.model_validate(values)
        if not 1 < len(plan.tasks) <= MOST_STAGES:
            raise ValueError(f"it has {len(plan.tasks)} stages")
        if plan.start is not None and not _is_path(plan.start.folder):
            raise ValueError("the folder of its start is not a name")
        if (plan.start is None) != (plan.kind is not None):
            raise ValueError("kind and start contradict each other")
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror or error}); {again}"
        ) from error
    except (ValueError, ConfigError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else str(error)
        raise CheckpointError(
            f"{path} is damaged ({printable(reason.rstrip('.'), LONGEST)}), so the run cannot be "
            f"resumed; {again}"
        ) from error
    return plan
