"""Background jobs: generators of core events, each in its own thread.

Needs no Qt. Events are delivered when :meth:`Job.pump` is called: by a timer in the window, by a
loop in a test. Every job ends with an :class:`Outcome`, whatever happens in its thread.
"""

import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from psygnal import Signal

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.events import (
    Done,
    Event,
    PauseFlag,
    Preview,
    Progress,
    Status,
    Step,
    StopFlag,
)
from napari_sslseg.gui.text import plural

ProblemKind = Literal["", "no project", "taken name", "unsaved labels"]
JobStatus = Literal["running", "paused", "stopping", "done", "stopped", "failed"]

NICE, LOWEST = 10, 19
"""By how much a job raises its niceness on Linux, and the highest niceness."""

PROGRESS_SECONDS = 1.0
"""Least time between two deliveries that contain nothing but progress."""

OUT_OF_MEMORY = "Out of memory; use fewer or smaller scans, a smaller batch, or a smaller network."
UNEXPECTED = "Unexpected error ({kind}); everything saved before it is safe."


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out. Does not import PyTorch to find out."""
    if isinstance(error, MemoryError) or "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from napari_sslseg.core.common.compute import memory

    return memory.is_out_of_memory(error)


def unexpected(error: BaseException) -> str:
    """Return a sentence for an error that is not one of ours."""
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    return UNEXPECTED.format(kind=type(error).__name__)


@dataclass(frozen=True)
class Problem:
    """An error.

    Attributes
    ----------
    sentence : str
        For the user.
    details : str
        A traceback for the developers.
    kind : {"", "no project", "taken name", "unsaved labels"}
        Which problem it is, for those that can be over before the user dismisses them.
    """

    sentence: str
    details: str = ""
    kind: ProblemKind = ""


@dataclass(frozen=True)
class Tally:
    """Result of a job over several scans: how much it has finished, and why the rest failed.

    Attributes
    ----------
    verb : str
        What was done to the scans, such as ``predicted``.
    done, total : int
        Number of what was finished, and of all that was wanted.
    failures : tuple of (str, str)
        Name of what failed, such as a scan, and a sentence that says why.
    noun : str
        What is counted.
    """

    verb: str
    done: int
    total: int
    failures: tuple[tuple[str, str], ...] = ()
    noun: str = "scan"

    @property
    def sentence(self) -> str:
        """How much was finished."""
        verb = "was" if self.total == 1 else "were"
        return f"{self.done} of {plural(self.total, self.noun)} {verb} {self.verb}."

    @property
    def problem(self) -> Problem | None:
        """The failures; None if there are none."""
        if not self.failures:
            return None
        name, why = self.failures[0]
        others = len(self.failures) - 1
        more = f" {plural(others, 'other')} failed too; see the details." if others else ""
        details = "\n".join(f"{name}: {why}" for name, why in self.failures) if others else ""
        # Most sentences begin with the name.
        first = why if why.startswith(name) else f"{name}: {why}"
        return Problem(f"{self.sentence} {first}{more}", details)


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its result, whether it was stopped, and the problem if it failed."""

    result: Any = None
    stopped: bool = False
    problem: Problem | None = None


def lower_priority() -> None:
    """Lower the priority of this thread and of those that it starts, below the main thread.

    Only on Linux, where each thread has its own priority; elsewhere it is the program's.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        lower = min(LOWEST, os.getpriority(os.PRIO_PROCESS, thread) + NICE)
        os.setpriority(os.PRIO_PROCESS, thread, lower)


class Job:
    """A generator of events that runs in a thread.

    Parameters
    ----------
    kind : str
        Kind of work, such as ``pretrain``.
    title : str
        Description for the user.
    events : callable
        ``(stop, pause) -> events``. It is called in the thread, so it may import slow modules.

    Attributes
    ----------
    folder : Path or None
        The run folder of a training.
    new_events : Signal of list of Event
        Events since the last pump, in order. Of several previews, only the last is included.
    changed : Signal
        The status has changed.
    ended : Signal of Outcome
        Emitted once, after all events.
    """

    new_events = Signal(list)
    changed = Signal()
    ended = Signal(Outcome)

    def __init__(
        self, kind: str, title: str, events: Callable[[StopFlag, PauseFlag], Iterator[Event]]
    ) -> None:
        self.kind, self.title = kind, title
        self.folder: Path | None = None
        self.status: JobStatus = "running"
        self._stop, self._pause = StopFlag(), PauseFlag()
        self._events = events
        self._queue: deque[Event] = deque()
        self._outcome: Outcome | None = None
        self._delivered = 0.0
        # A daemon: closing the window must end the program even if a step never does.
        self._thread = threading.Thread(target=self._work, name=f"sslseg-{kind}", daemon=True)

    def start(self) -> "Job":
        """Start the thread and return the job."""
        self._thread.start()
        return self

    @property
    def active(self) -> bool:
        """Whether ``ended`` has not been emitted yet."""
        return self.status in ("running", "paused", "stopping")

    def stop(self) -> None:
        """Request that the job saves and ends after the current step."""
        if self.active:
            self._stop.set()
            self._pause.clear()
            self._set_status("stopping")

    def pause(self) -> None:
        """Request that the job saves and waits after the current step."""
        if self.status == "running":
            self._pause.set()

    def resume(self) -> None:
        """Continue after a pause."""
        self._pause.clear()

    @property
    def pausing(self) -> bool:
        """Whether a pause was requested, even if the job is still in its current step."""
        return self._pause.is_set

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the thread and return whether it has ended. The next pump emits its outcome."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def pump(self) -> None:
        """Emit the events since the last call. Call it from the main thread."""
        outcome = self._outcome  # Read before the events, so that no event follows it.
        if outcome is None and not self._is_due():
            return
        events = [self._queue.popleft() for _ in range(len(self._queue))]
        previews = [event for event in events if isinstance(event, Preview)]
        events = [e for e in events if not isinstance(e, Preview) or e is previews[-1]]
        for event in events:
            if isinstance(event, Status) and self.status != "stopping":
                self._set_status(event.status)
        if events:
            self.new_events.emit(events)
        if outcome is not None and self.active:
            failed = outcome.problem is not None
            self._set_status("failed" if failed else "stopped" if outcome.stopped else "done")
            self.ended.emit(outcome)

    def _is_due(self) -> bool:
        """Whether to deliver now: each delivery redraws the window, so mere progress waits."""
        queued = [self._queue[number] for number in range(len(self._queue))]
        now = time.monotonic()
        if (
            all(isinstance(e, Step | Progress) for e in queued)
            and now - self._delivered < PROGRESS_SECONDS
        ):
            return False
        self._delivered = now
        return True

    def _set_status(self, status: JobStatus) -> None:
        if status != self.status:
            self.status = status
            self.changed.emit()

    def _work(self) -> None:
        """Run in the thread, which always sets an outcome."""
        result, stopped = None, False
        lower_priority()
        try:
            with closing(self._events(self._stop, self._pause)) as events:  # type: ignore[type-var]
                for event in events:
                    if isinstance(event, Done):
                        result, stopped = event.result, event.stopped
                    else:
                        self._queue.append(event)
        except SslsegError as error:
            self._outcome = Outcome(result, problem=Problem(str(error), traceback.format_exc()))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            sentence = f"{where}{error.strerror or error}; check the path and the disk."
            self._outcome = Outcome(result, problem=Problem(sentence, traceback.format_exc()))
        except BaseException as error:  # noqa: BLE001  # Without an outcome the job never ends.
            problem = Problem(unexpected(error), traceback.format_exc())
            self._outcome = Outcome(result, problem=problem)
        else:
            self._outcome = Outcome(result, stopped)
