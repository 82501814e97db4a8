"""Events of long jobs, and flags that stop or pause them.

A long job is a generator of these frozen events. They hold numbers and NumPy copies, never live
tensors, so they can be passed between threads.
"""

import re
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from inspect import cleandoc, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast

from napari_sslseg.core.common.errors import CallError
from napari_sslseg.core.common.text import did_you_mean

if TYPE_CHECKING:
    from napari_sslseg.core.common.example_pictures import PretextPreview, SlicePrediction

# Seconds after which a paused job checks whether it should stop.
LONGEST_WAIT = 0.1


@dataclass(frozen=True)
class Event:
    """Base class of all events."""


@dataclass(frozen=True)
class Message(Event):
    """Information for the user, in one sentence."""

    text: str


@dataclass(frozen=True)
class Milestone(Message):
    """A message about a change after ``step`` steps; ``name`` is its short form."""

    step: int
    name: str


@dataclass(frozen=True)
class Progress(Event):
    """Progress of a stage: ``done`` of ``total`` units, such as scans read."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Step(Event):
    """One optimiser step; ``step`` counts from 1.

    ``cost`` is the work of this step relative to that of the first ones, ``cost_left`` that of all
    steps that are left; if None, they are like this one.
    """

    step: int
    total: int
    loss: float
    learning_rate: float
    images_per_second: float
    cost: float = 1.0
    cost_left: float | None = None


@dataclass(frozen=True)
class Validation(Event):
    """Metrics on held-out data, and whether they are the best so far."""

    step: int
    epoch: int
    metrics: dict[str, float]
    improved: bool


@dataclass(frozen=True, eq=False)
class Preview(Event):
    """Output of the network for the watched slice after ``step`` steps, as copies."""

    step: int
    picture: "PretextPreview | SlicePrediction"


@dataclass(frozen=True)
class Saved(Event):
    """A checkpoint was written."""

    path: Path
    step: int


@dataclass(frozen=True)
class Status(Event):
    """Change of state of a training at ``step``: ``paused``, or ``running`` again."""

    status: Literal["paused", "running"]
    step: int


@dataclass(frozen=True)
class Done(Event):
    """Last event of a job, with its result; ``stopped`` if it ended early on request."""

    result: Any
    stopped: bool = False


def result_of(events: Iterable[Event]) -> Any:
    """Run a job to the end and return the result of Done."""
    found = None
    for event in events:
        if isinstance(event, Done):
            found = event.result
    return found


P = ParamSpec("P")
Result = TypeVar("Result")
Yielded = TypeVar("Yielded")


def as_function(
    job: Callable[P, Iterator[Event]],
    result: type[Result],
    call: str = "",
    returns: str = "",
    settings: Callable[[str, object], str] | None = None,
    setting_names: Callable[[], Iterable[str]] = list,
) -> Callable[P, Result]:
    """Turn a job into a function that runs it to the end and returns the result of Done.

    Parameters
    ----------
    job : callable
        Returns an iterator of events.
    result : type
        Type of the result.
    call : str
        A correct call, for the error about a wrong one.
    returns : str
        What is returned, for the docstring.
    settings : callable, optional
        Writes the argument that contains a setting of a name and value, or gives an empty text; for
        the error about a setting that is given as an argument.
    setting_names : callable
        Names of all settings, for the error about a misspelt one.
    """

    @wraps(job)
    def function(*args: P.args, **kwargs: P.kwargs) -> Result:
        if call:
            _check_call(job, args, kwargs, call, settings, setting_names)
        return cast("Result", result_of(job(*args, **kwargs)))

    intro = f"Run :func:`{job.__name__}` to the end and return the result of Done."
    function.__doc__ = f"{intro}\n\n{_with_returns(cleandoc(job.__doc__ or ''), result, returns)}"
    function.__name__ = job.__name__.removeprefix("iter_")
    function.__qualname__ = function.__name__
    function.__annotations__ = {**job.__annotations__, "return": result}
    setattr(function, "__signature__", signature(job).replace(return_annotation=result))  # noqa: B010
    return function


def _with_returns(text: str, result: Any, returns: str) -> str:
    """Replace the events that a job yields by the result that the function returns."""
    section = re.search(r"^Yields\n-+\n.*?(?=\n\n\w|\Z)", text, re.MULTILINE | re.DOTALL)
    if section is None or not returns:
        return text
    name = result.__name__ if isinstance(result, type) else str(result)
    new = f"Returns\n-------\n{name}\n    {returns}"
    return text[: section.start()] + new + text[section.end() :]


def _check_call(
    job: Any,
    args: Any,
    kwargs: Mapping[str, Any],
    call: str,
    settings: Callable[[str, object], str] | None,
    setting_names: Callable[[], Iterable[str]],
) -> None:
    """Refuse arguments that a job does not have, with a call that is right."""
    known = signature(job)
    try:
        known.bind(*args, **kwargs)
    except TypeError as error:
        name = job.__name__.removeprefix("iter_")
        wrong = next((key for key in kwargs if key not in known.parameters), None)
        if wrong and settings and (place := settings(wrong, kwargs[wrong])):
            raise CallError(
                f"{name} has no argument {wrong}, which is a setting; write {place}. "
                f"help(core.{name}) explains all arguments."
            ) from error
        names = [*known.parameters, *setting_names()]
        hint = f"{did_you_mean(wrong, names)} " if wrong else ""
        raise CallError(
            f"{name}: {error}; write {call}. {hint.lstrip()}help(core.{name}) explains all "
            "arguments."
        ) from error


def return_value(
    steps: Generator[Yielded, None, Result], take: Callable[[Yielded], Any] | None = None
) -> Result:
    """Run a generator to its end and return its return value; ``take`` is called with each item."""
    while True:
        try:
            item = next(steps)
        except StopIteration as end:
            return end.value
        if take is not None:
            take(item)


class StopFlag:
    """Flag that stops a running job after its current step; safe to set from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Request the stop."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether a stop was requested."""
        return self._event.is_set()


class PauseFlag:
    """Flag that pauses and resumes a running job between steps; safe to use from any thread."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self._go.set()

    def set(self) -> None:
        """Request the pause."""
        self._go.clear()

    def clear(self) -> None:
        """Resume the job."""
        self._go.set()

    @property
    def is_set(self) -> bool:
        """Whether a pause was requested."""
        return not self._go.is_set()

    def wait(self, longest: float = LONGEST_WAIT) -> None:
        """Sleep until the job is resumed, for at most ``longest`` seconds."""
        self._go.wait(longest)
