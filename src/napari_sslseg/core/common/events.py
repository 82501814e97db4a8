"""What a long job tells about itself, and how it is told to stop.

A long job is a generator of these frozen events. They carry numbers and NumPy copies, never live
tensors, so they may cross threads.
"""

import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

if TYPE_CHECKING:
    from napari_sslseg.core.common.pictures import PretextPreview, SlicePrediction

# Seconds after which a pausing job looks whether it should stop.
LONGEST_WAIT = 0.1


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class Message(Event):
    """Something worth telling the user, in one sentence."""

    text: str


@dataclass(frozen=True)
class Milestone(Message):
    """A message about what holds from after ``step`` steps on; ``name`` says it in few words."""

    step: int
    name: str


@dataclass(frozen=True)
class Progress(Event):
    """``done`` of ``total`` pieces of work of a stage, such as scans read."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Step(Event):
    """One optimiser step; ``step`` counts from 1."""

    step: int
    total: int
    loss: float
    learning_rate: float
    images_per_second: float


@dataclass(frozen=True)
class Validation(Event):
    """Figures on data that the training does not see, and whether they are the best so far."""

    step: int
    epoch: int
    metrics: dict[str, float]
    improved: bool


@dataclass(frozen=True, eq=False)
class Preview(Event):
    """What the network makes of the slice that is watched, after ``step`` steps, as copies."""

    step: int
    picture: "PretextPreview | SlicePrediction"


@dataclass(frozen=True)
class Saved(Event):
    """A checkpoint is on disk."""

    path: Path
    step: int


@dataclass(frozen=True)
class Status(Event):
    """What a training does from ``step`` on: ``paused``, or ``running`` again."""

    status: Literal["paused", "running"]
    step: int


@dataclass(frozen=True)
class Done(Event):
    """The last event of a job, with its result; ``stopped`` if it was asked to end early."""

    result: Any
    stopped: bool = False


P = ParamSpec("P")
Result = TypeVar("Result")
Yielded = TypeVar("Yielded")


def as_function(job: Callable[P, Iterator[Event]]) -> Callable[P, Any]:
    """Make a plain function of a job: it runs to the end and returns the result of Done."""

    @wraps(job)
    def function(*args: P.args, **kwargs: P.kwargs) -> Any:
        result = None
        for event in job(*args, **kwargs):
            if isinstance(event, Done):
                result = event.result
        return result

    intro = f"Do as :func:`{job.__name__}` does, to the end, and return the result of Done."
    function.__doc__ = f"{intro}\n\n    {job.__doc__}"
    function.__name__ = job.__name__.removeprefix("iter_")
    function.__qualname__ = function.__name__
    return function


def return_value(
    steps: Generator[Yielded, None, Result], take: Callable[[Yielded], Any] | None = None
) -> Result:
    """Run a generator to its end and give what it returns; ``take`` is given what it yields."""
    while True:
        try:
            item = next(steps)
        except StopIteration as end:
            return end.value
        if take is not None:
            take(item)


class StopFlag:
    """Asks a running job to stop after its current step; safe to set from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask for the stop."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()


class PauseFlag:
    """Asks a running job to wait between two steps, and to go on; safe to use from any thread."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self._go.set()

    def set(self) -> None:
        """Ask for the pause."""
        self._go.clear()

    def clear(self) -> None:
        """Let the job go on."""
        self._go.set()

    @property
    def is_set(self) -> bool:
        """Whether a pause was asked for."""
        return not self._go.is_set()

    def wait(self, longest: float = LONGEST_WAIT) -> None:
        """Sleep until the pause is over, but no longer than so many seconds."""
        self._go.wait(longest)
