"""What the screen shows and does: trainings and predictions of a project, and what comes next."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_sslseg.core.common.errors import ConfigError, SslsegError
from napari_sslseg.core.common.events import Event, Message, PauseFlag, StopFlag
from napari_sslseg.core.settings.training import VALIDATION_SHARE
from napari_sslseg.gui.model.jobs import Job, Outcome, Problem
from napari_sslseg.gui.model.next_step import next_step, progress_of
from napari_sslseg.gui.model.run_words import forget_empty_run, now_held_out
from napari_sslseg.gui.model.session_base import NO_PROJECT, SessionBase

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings


class Session(SessionBase):
    """The model of the window, with what a project is for."""

    def pretrain(self, task: Any, settings: "PretrainSettings", device: str = "auto") -> Job | None:
        """Pretrain on all training scans of the project."""
        from napari_sslseg.core.stages.pretrain import iter_pretrain

        return self._pretrain(partial(iter_pretrain, task=task, settings=settings, device=device))

    def pretrain_preset(self, preset: Any, device: str = "auto") -> Job | None:
        """Pretrain as a preset says, in all its stages, on all training scans of the project."""
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
        """Fine-tune on the slices that are done; some patients are kept out to score it."""
        from napari_sslseg.core.stages.finetune import iter_finetune

        project = self._ready()
        out = self._new_run(project, "finetune")
        if project is None or out is None:
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

    def go_on(self, run: str) -> Job | None:
        """Go on with a run of the project that was stopped or interrupted."""
        from napari_sslseg.core.runs.run import Run
        from napari_sslseg.core.runs.stage_folders import is_staged
        from napari_sslseg.core.stages.finetune import iter_finetune
        from napari_sslseg.core.stages.preset import iter_pretrain_preset

        project = self._ready()
        if project is None:
            return None
        out = project.folder / "runs" / run

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            flags: dict[str, Any] = {"stop": stop, "pause": pause, "watch": self.watch}
            apart = now_held_out(project, out)
            if apart:
                raise ConfigError(
                    f"{run} learns from {apart[0]}, whose patient is held out by now; start a new "
                    "training, or choose Train for that patient in step 1."
                )
            # The first stage of a preset that was interrupted has a folder of its own.
            if is_staged(out) or Run.open(out).kind == "pretrain":
                yield from iter_pretrain_preset(project.scans(), out=out, resume=True, **flags)
            else:
                yield from iter_finetune(
                    project.labelled_scans(),
                    unlabelled=project.unlabelled_scans(usable_only=True),
                    out=out,
                    resume=True,
                    **flags,
                )

        kind = "pretrain" if run.startswith("pretrain") else "finetune"
        return self._train(kind, f"Going on with {run}", events, out)

    def _ready(self) -> "Project | None":
        """The project, if a training can begin."""
        if self.project is None:
            self.problem.emit(Problem(NO_PROJECT))
            return None
        if self.training is not None:
            self.problem.emit(Problem("A training runs already; stop it first."))
            return None
        if self.is_writing():
            return None
        self.finish()
        return self.project

    def _new_run(
        self, project: "Project | None", kind: Literal["pretrain", "finetune"]
    ) -> Path | None:
        """The folder of a new run; None, and a problem, if it cannot be made."""
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
            forget_empty_run(out)
            self.look_for_runs()

        return self.run(kind, title, events, ended, out)

    # What comes next

    def summary(self) -> Mapping[str, int]:
        """Numbers that tell how far the work is, see :class:`next_step.Progress`."""
        return asdict(progress_of(self.project, self.runs, self.scan_problems))

    def next_step(self) -> str:
        """Say in one sentence what to do next."""
        return next_step(self.project, self.runs, self.scan_problems, self.jobs)
