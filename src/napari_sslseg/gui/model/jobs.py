"""Core jobs on threads of their own, whose events are heard where somebody pumps.

Needs no Qt: a window pumps by a timer, a test by a loop. Whatever happens in the thread comes out
as an :class:`Outcome`; nothing is lost in it.
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

JobStatus = Literal["running", "paused", "stopping", "done", "stopped", "failed"]

NICE, LOWEST = 10, 19
"""How much a job lowers its priority, and how far down it may go, as Linux counts it."""

QUIET = 1.0
"""Seconds between two words of mere progress."""

MEMORY = "Out of memory; take fewer or smaller scans, a smaller batch, or a smaller network."
UNKNOWN = "Something went wrong that should not have ({kind}); what was saved before is safe."


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that there is too little memory; loads no PyTorch to find out."""
    if isinstance(error, MemoryError) or "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from napari_sslseg.core.common.compute.memory import is_out_of_memory

    return is_out_of_memory(error)


@dataclass(frozen=True)
class Problem:
    """What went wrong: one sentence for everybody, and details for whoever mends it."""

    sentence: str
    details: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a job ended: its result if any, and the problem if it failed."""

    result: Any = None
    stopped: bool = False
    problem: Problem | None = None


def give_way() -> None:
    """Let this thread, and those that it starts, yield the processor to that of the screen.

    On Linux, where a priority is that of a thread; elsewhere it would be that of the program.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        lower = min(LOWEST, os.getpriority(os.PRIO_PROCESS, thread) + NICE)
        os.setpriority(os.PRIO_PROCESS, thread, lower)


class Job:
    """A generator of events at work in a thread.

    Parameters
    ----------
    kind : str
        What it does, such as ``pretrain``.
    title : str
        The same in words, for the user.
    events : callable
        ``(stop, pause) -> events``; called in the thread, so that it may import what is heavy.

    Attributes
    ----------
    folder : Path or None
        The run folder of a training.
    told : Signal of list of Event
        What happened since the last pump, in order; of several previews the last alone.
    changed : Signal
        The status has changed.
    ended : Signal of Outcome
        The last that is heard of it.
    """

    told = Signal(list)
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
        self._heard: deque[Event] = deque()
        self._outcome: Outcome | None = None
        self._told_at = 0.0
        # A daemon: closing the window must end the program even if a step never does.
        self._thread = threading.Thread(target=self._work, name=f"sslseg-{kind}", daemon=True)

    def start(self) -> "Job":
        """Begin."""
        self._thread.start()
        return self

    @property
    def active(self) -> bool:
        """Whether its end has not been heard yet."""
        return self.status in ("running", "paused", "stopping")

    def stop(self) -> None:
        """Ask it to save and end after the current step."""
        if self.active:
            self._stop.set()
            self._pause.clear()
            self._become("stopping")

    def pause(self) -> None:
        """Ask it to save and wait after the current step."""
        if self.status == "running":
            self._pause.set()

    def resume(self) -> None:
        """Let it go on."""
        self._pause.clear()

    @property
    def pausing(self) -> bool:
        """Whether it was asked to pause, and perhaps has not yet."""
        return self._pause.is_set

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the thread to end; whether it has. Its outcome is heard with the next pump."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def pump(self) -> None:
        """Emit what was heard since the last time; call it from the thread of the screen."""
        outcome = self._outcome  # Before the events, so that none comes after it.
        if outcome is None and not self._worth_telling():
            return
        events = [self._heard.popleft() for _ in range(len(self._heard))]
        previews = [event for event in events if isinstance(event, Preview)]
        events = [e for e in events if not isinstance(e, Preview) or e is previews[-1]]
        for event in events:
            if isinstance(event, Status) and self.status != "stopping":
                self._become(event.status)
        if events:
            self.told.emit(events)
        if outcome is not None and self.active:
            failed = outcome.problem is not None
            self._become("failed" if failed else "stopped" if outcome.stopped else "done")
            self.ended.emit(outcome)

    def _worth_telling(self) -> bool:
        """Whether there is more than a little progress: each word redraws the whole window."""
        heard = [self._heard[number] for number in range(len(self._heard))]
        now = time.monotonic()
        if all(isinstance(e, Step | Progress) for e in heard) and now - self._told_at < QUIET:
            return False
        self._told_at = now
        return True

    def _become(self, status: JobStatus) -> None:
        if status != self.status:
            self.status = status
            self.changed.emit()

    def _work(self) -> None:
        """Run in the thread, which must not end without an outcome."""
        result, stopped = None, False
        give_way()
        try:
            with closing(self._events(self._stop, self._pause)) as events:  # type: ignore[type-var]
                for event in events:
                    if isinstance(event, Done):
                        result, stopped = event.result, event.stopped
                    else:
                        self._heard.append(event)
        except SslsegError as error:
            self._outcome = Outcome(result, problem=Problem(str(error), traceback.format_exc()))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            sentence = f"{where}{error.strerror or error}; check the path and the disk."
            self._outcome = Outcome(result, problem=Problem(sentence, traceback.format_exc()))
        except BaseException as error:  # noqa: BLE001  # An end that nobody hears is worse.
            kind = type(error).__name__
            sentence = MEMORY if out_of_memory(error) else UNKNOWN.format(kind=kind)
            self._outcome = Outcome(result, problem=Problem(sentence, traceback.format_exc()))
        else:
            self._outcome = Outcome(result, stopped)
