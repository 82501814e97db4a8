"""The session of the window: trainings of a project, and the next step of the user."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_sslseg.core.common.errors import ConfigError, ProjectError, SslsegError
from napari_sslseg.core.common.events import Event, Message, PauseFlag, StopFlag
from napari_sslseg.core.settings.training import VALIDATION_SHARE
from napari_sslseg.gui.model.jobs import Job, Outcome, Problem
from napari_sslseg.gui.model.next_step import next_step, project_progress
from napari_sslseg.gui.model.run_descriptions import (
    held_out_scans,
    remove_empty_run,
    unusable_scan,
)
from napari_sslseg.gui.model.session_base import NO_PROJECT, SessionBase
from napari_sslseg.gui.model.structure_states import StructureStates

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings


class Session(SessionBase):
    """The model of the window: project, scans, jobs, trainings and the next step.

    Attributes
    ----------
    structures : StructureStates
        Which structures are visible, and how opaque.
    """

    def __init__(self) -> None:
        super().__init__()
        self.structures = StructureStates(self)

    def pretrain(self, task: Any, settings: "PretrainSettings", device: str = "auto") -> Job | None:
        """Pretrain on all training scans of the project."""
        from napari_sslseg.core.stages.pretrain import iter_pretrain

        return self._pretrain(partial(iter_pretrain, task=task, settings=settings, device=device))

    def pretrain_preset(self, preset: Any, device: str = "auto") -> Job | None:
        """Pretrain with a preset, in all its stages, on all training scans of the project."""
        from napari_sslseg.core.stages.preset import iter_pretrain_preset

        return self._pretrain(partial(iter_pretrain_preset, preset=preset, device=device))

    def _pretrain(self, begin: Callable[..., Iterator[Event]]) -> Job | None:
        project = self._ready()
        out = self._new_run(project, "pretrain")
        if project is None or out is None:
            return None

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            return begin(
                project.scans("train", usable_only=True), out=out, stop=stop, pause=pause,
                watch=self.watch, overwrite=True,
            )  # fmt: skip

        return self._train("pretrain", f"Pretraining {out.name}", events, out)

    def finetune(
        self,
        init: Any,
        settings: "FinetuneSettings",
        *,
        validation_share: float = VALIDATION_SHARE,
        device: str = "auto",
    ) -> Job | None:
        """Fine-tune on the done slices. Some patients are held out for validation."""
        from napari_sslseg.core.stages.finetune import iter_finetune

        project = self._ready()
        if project is None or not self.is_saved("The training"):
            return None
        out = self._new_run(project, "finetune")
        if out is None:
            return None

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            split = project.split_validation(validation_share, usable_only=True)
            if split.note:
                yield Message(split.note)
            others = project.unlabelled_scans(usable_only=True) if settings.self_training else ()
            yield from iter_finetune(
                split.training, init=init, out=out, settings=settings, validation=split.validation,
                unlabelled=others, device=device, stop=stop, pause=pause, watch=self.watch,
                overwrite=True,
            )  # fmt: skip

        return self._train("finetune", f"Fine-tuning {out.name}", events, out)

    def resume(self, run: str) -> Job | None:
        """Resume a run of the project that was stopped or interrupted.

        Raises
        ------
        CheckpointError
            If the run has no readable record.
        """
        from napari_sslseg.core.runs.run import Run
        from napari_sslseg.core.runs.stage_folders import is_staged
        from napari_sslseg.core.stages.finetune import iter_finetune
        from napari_sslseg.core.stages.preset import iter_pretrain_preset

        project = self._ready()
        if project is None:
            return None
        out = project.folder / "runs" / run
        # The first stage of a preset has its own folder, so this one may have no record yet.
        kind = "pretrain" if is_staged(out) else Run.open(out).kind
        if kind == "finetune" and not self.is_saved("The training"):
            return None

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            flags: dict[str, Any] = {"stop": stop, "pause": pause, "watch": self.watch}
            held_out = held_out_scans(project, out)
            if held_out:
                raise ConfigError(
                    f"{run} uses {held_out[0]} for training, whose patient is held out now; start "
                    "a new training, or choose Train for that patient in step 1."
                )
            problem = unusable_scan(project, out)
            if problem is not None:
                raise ProjectError(f"{run} cannot be resumed. {problem}")
            # Other scans that are missing or changed are not needed.
            if kind == "pretrain":
                scans = project.scans(usable_only=True)
                yield from iter_pretrain_preset(scans, out=out, resume=True, **flags)
            else:
                yield from iter_finetune(
                    project.labelled_scans(usable_only=True),
                    unlabelled=project.unlabelled_scans(usable_only=True),
                    out=out,
                    resume=True,
                    **flags,
                )

        return self._train(kind, f"Resuming {run}", events, out)

    def _ready(self) -> "Project | None":
        """Return the project if a training can start; else report why not and return None."""
        if self.project is None:
            self.problem.emit(Problem(NO_PROJECT, kind="no project"))
            return None
        if self.training is not None:
            self.problem.emit(Problem("A training is already running; stop it first."))
            return None
        if self.is_writing():
            return None
        self.finish()
        return self.project

    def _new_run(
        self, project: "Project | None", kind: Literal["pretrain", "finetune"]
    ) -> Path | None:
        """Make the folder of a new run; report the problem and return None if that fails."""
        if project is None:
            return None
        try:
            return project.new_run_folder(kind)
        except SslsegError as error:
            self.problem.emit(Problem(str(error)))
            return None

    def _train(
        self, kind: str, title: str, events: Callable[[StopFlag, PauseFlag], Any], out: Path
    ) -> Job:
        def ended(outcome: Outcome) -> None:
            remove_empty_run(out)
            self.look_for_runs()

        return self.run(kind, title, events, ended, out)

    # The next step

    def summary(self) -> Mapping[str, int]:
        """Counts of the project, see :class:`~.next_step.ProjectProgress`."""
        return asdict(project_progress(self.project, self.runs, self.scan_problems))

    def next_step(self) -> str:
        """Return a sentence that says what to do next."""
        predicted = self.predictions.runs
        return next_step(self.project, self.runs, self.scan_problems, self.jobs, predicted)
