"""The background jobs of a session and their signals. Needs no Qt."""

from collections.abc import Callable, Iterator
from pathlib import Path

from psygnal import Signal

from napari_sslseg.core.common.events import Event, PauseFlag, StopFlag
from napari_sslseg.gui.model.jobs import Job, Outcome, Problem, Tally

TRAINING = ("pretrain", "finetune")

WRITING = ("import", "classes")
"""Kinds of jobs that change labels of scans and must not be interrupted."""

WRITING_SECONDS = 60.0
"""How long a project that is being closed waits for such a job."""

CHANGING = "Labels are being changed in the background; wait a moment, then try again."


class SessionJobs:
    """Starts jobs and forwards their signals.

    Attributes
    ----------
    jobs : list of Job
        Jobs that have not ended.
    jobs_changed : Signal
        A job started, ended, or changed its status.
    job_events : Signal of (Job, list of Event)
        New events of a job.
    job_ended : Signal of (Job, Outcome)
    problem : Signal of Problem
        An error to show at once.
    note : Signal of str
        A sentence to show as a notification.
    remark : Signal of str
        Sentences about labels that the user should read, shown until the user dismisses them.
    """

    jobs_changed = Signal()
    job_events = Signal(object, list)
    job_ended = Signal(object, Outcome)
    problem = Signal(Problem)
    note = Signal(str)
    remark = Signal(str)

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    @property
    def training(self) -> Job | None:
        """The pretraining or fine-tuning that is running, or None."""
        return next((job for job in self.jobs if job.kind in TRAINING and job.active), None)

    def is_writing(self) -> bool:
        """Whether a job is changing labels of scans; if so, emits a problem that asks to wait."""
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
        """Start a job.

        Parameters
        ----------
        kind, title, events
            See :class:`~napari_sslseg.gui.model.jobs.Job`.
        ended : callable, optional
            Called with the outcome, before the signals are emitted.
        folder : Path, optional
            Run folder of a training.
        """
        job = Job(kind, title, events)
        job.folder = folder

        def finished(outcome: Outcome) -> None:
            self.jobs.remove(job)
            if ended is not None:
                ended(outcome)
            failed = outcome.result.problem if isinstance(outcome.result, Tally) else None
            for problem in (outcome.problem, failed):
                if problem is not None:
                    self.problem.emit(problem)
            self.job_ended.emit(job, outcome)
            self.jobs_changed.emit()

        job.new_events.connect(lambda events: self.job_events.emit(job, events))
        # psygnal would call an `emit` that is connected directly at once, to see its arguments.
        job.changed.connect(lambda: self.jobs_changed.emit())
        job.ended.connect(finished)
        self.jobs.append(job)
        job.start()
        self.jobs_changed.emit()
        return job

    def pump(self) -> None:
        """Deliver the events of all jobs. Call it often from the main thread."""
        for job in list(self.jobs):
            job.pump()
