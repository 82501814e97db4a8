"""The jobs of a session, and what they tell. Needs no Qt."""

from collections.abc import Callable, Iterator
from pathlib import Path

from psygnal import Signal

from napari_sslseg.core.common.events import Event, PauseFlag, StopFlag
from napari_sslseg.gui.model.jobs import Job, Outcome, Problem

TRAINING = ("pretrain", "finetune")

WRITING = ("import", "classes")
"""Jobs that change labels of scans, and must not be cut short."""

WRITING_SECONDS = 60.0
"""For how long the project stays open for such a job."""

CHANGING = "Labels are being changed in the background; wait a moment, then try again."


class SessionJobs:
    """Starts jobs and hears them.

    Attributes
    ----------
    jobs : list of Job
        Those whose end was not heard yet.
    jobs_changed : Signal
        A job began, ended, or changed its status.
    told : Signal of (Job, list of Event)
        What a job tells.
    ended : Signal of (Job, Outcome)
    problem : Signal of Problem
        To be shown at once.
    note : Signal of str
        A sentence worth showing.
    """

    jobs_changed = Signal()
    told = Signal(object, list)
    ended = Signal(object, Outcome)
    problem = Signal(Problem)
    note = Signal(str)

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    @property
    def training(self) -> Job | None:
        """The pretraining or fine-tuning that runs, if one does."""
        return next((job for job in self.jobs if job.kind in TRAINING and job.active), None)

    def is_writing(self) -> bool:
        """Whether a job changes labels of scans; if so, a problem says to wait."""
        found = any(job.kind in WRITING and job.active for job in self.jobs)
        if found:
            self.problem.emit(Problem(CHANGING))
        return found

    def run(
        self,
        kind: str,
        title: str,
        events: Callable[[StopFlag, PauseFlag], Iterator[Event]],
        ended: Callable[[Outcome], None] | None = None,
        folder: Path | None = None,
    ) -> Job:
        """Start a job; ``ended`` hears of its end first. ``folder`` is the run of a training."""
        job = Job(kind, title, events)
        job.folder = folder

        def over(outcome: Outcome) -> None:
            self.jobs.remove(job)
            if ended is not None:
                ended(outcome)
            if outcome.problem is not None:
                self.problem.emit(outcome.problem)
            self.ended.emit(job, outcome)
            self.jobs_changed.emit()

        job.told.connect(lambda events: self.told.emit(job, events))
        job.changed.connect(self.jobs_changed.emit)
        job.ended.connect(over)
        self.jobs.append(job)
        job.start()
        self.jobs_changed.emit()
        return job

    def pump(self) -> None:
        """Hear all jobs; call it often from the thread of the screen."""
        for job in list(self.jobs):
            job.pump()
