"""Output of the command line: messages to standard error, results to standard output."""

import os
import shlex
import signal
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress as Bars,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from napari_sslseg.cli.interrupts import interrupt_once
from napari_sslseg.core.common.compute.distributed import is_first
from napari_sslseg.core.common.errors import ScanWarning
from napari_sslseg.core.common.events import (
    Done,
    Event,
    Message,
    Progress,
    Step,
    StopFlag,
    Validation,
)
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.runs.time_left import TimeLeft, duration

STOPPING = b"Stopping after this step; press Ctrl-C again to stop immediately.\n"
PLAIN_INTERVAL = 10.0
"""Seconds between two lines of progress in a log file."""

PLAIN_WIDTH = 80
"""Columns of standard output that is not a terminal."""

err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
out = Console(highlight=False, soft_wrap=True, emoji=False)


class Interrupted(Exception):  # noqa: N818
    """The user pressed Ctrl-C; the argument is the message about what was saved."""


def fail(message: str) -> None:
    """Print one plain line on standard error."""
    # Not with rich, which would read brackets in paths as markup.
    print(f"napari-sslseg: {printable(message)}", file=sys.stderr)


def print_table(text: str) -> None:
    """Print lines that are meant to be copied into a file, on standard error."""
    for line in text.splitlines():
        print(printable(line), file=sys.stderr)


def say(message: str) -> None:
    """Print one line for the user on standard error, so that standard output has only results."""
    err.print(printable(message), markup=False)


def follow(
    events: Iterator[Event], stop: StopFlag, *, resumable: bool = False, again: str = ""
) -> Any:
    """Show the events of a job and return its result.

    Ctrl-C asks the job to stop and save; a second Ctrl-C ends it immediately, and a third one ends
    the process while the job saves its last state.

    Parameters
    ----------
    events : iterator of Event
        The job.
    stop : StopFlag
        Stops the job.
    resumable : bool
        Whether ``--resume`` continues the job if it is stopped; a run can always be resumed.
    again : str
        What happens to a job that cannot be continued, for the message.

    Raises
    ------
    Interrupted
        When the job has stopped and saved because of Ctrl-C.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        if stop.is_set:
            interrupt_once(number, frame)
        stop.set()
        if is_first():
            # Not with Python's buffers, which the interrupted code may be using.
            os.write(2, b"\n" * err.is_terminal + STOPPING)

    before = signal.signal(signal.SIGINT, interrupt)
    view = ProgressBars() if err.is_terminal and is_first() else ProgressLines()
    try:
        with view:
            for event in events:
                if isinstance(event, Done):
                    if event.stopped:
                        raise Interrupted(
                            _describe_stop(event.result, resumable) + f" {again}".rstrip()
                        )
                    return event.result
                if is_first():
                    view.show(event)
    finally:
        # The job saves its state before this returns, also if the interrupt came outside of it.
        close = getattr(events, "close", None)
        if close is not None:
            close()
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, before)
    raise AssertionError("a job must end with Done")


def _describe_stop(result: Any, resumable: bool) -> str:
    if result is None:
        return "Stopped before there was a result; run the same command again to start anew."
    resume = "; use --resume to continue" if resumable or hasattr(result, "record") else ""
    return f"Stopped; the results so far are saved{resume}."


def _describe(event: Step | Validation) -> str:
    if isinstance(event, Step):
        return f"loss {event.loss:.4g}"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in event.metrics.items())
    return f"validation at step {event.step}: {metrics}" + (" (best)" if event.improved else "")


def _time(left: TimeLeft) -> str:
    """Remaining time of a training, once its speed is known and until it ends."""
    seconds = left.remaining
    if seconds is None or left.step == left.total:
        return ""
    return f", {duration(seconds)} left"


def for_shell(path: Path) -> str:
    """Write a path so that it can be pasted into a shell."""
    return shlex.quote(str(path))


def records(titles: list[str], rows: list[list[Any]]) -> None:
    """Print a table as :func:`table` does, or, if it is too wide, lines of text for each row.

    The first cell of a row is its title; cells without content are left out.
    """
    cells = _cells(rows)
    # Titles are wrapped between words.
    words = [max(title.split(), key=len) for title in titles]
    widths = [max(map(len, column)) for column in zip(words, *cells, strict=True)]
    most = out.width if out.is_terminal else PLAIN_WIDTH
    if sum(widths) + 2 * len(widths) <= most:
        table(titles, rows)
        return
    for first, *others in cells:
        print(first)
        line = " "
        for title, cell in zip(titles[1:], others, strict=True):
            text = f" {title}: {cell}" if cell else ""
            if len(line) > 1 and len(line) + len(text) >= most:
                _print_wrapped(line, most)
                line = " "
            line += text + ";" * bool(text)
        _print_wrapped(line, most)


def _print_wrapped(line: str, width: int) -> None:
    text = textwrap.fill(
        line.rstrip(";"),
        width,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    print(text)


def _cells(rows: list[list[Any]]) -> list[list[str]]:
    return [
        ["–" if v is None else f"{v:.3f}" if isinstance(v, float) else printable(v) for v in row]
        for row in rows
    ]


def table(titles: list[str], rows: list[list[Any]]) -> None:
    """Print a table on standard output; floats with three decimals, None as a dash."""
    cells = _cells(rows)
    grid = Table(box=None, header_style="bold")
    for title, *column in zip(titles, *cells, strict=True):
        # In a narrow terminal titles are wrapped, cells are not.
        grid.add_column(title, no_wrap=False, min_width=max(map(len, column), default=1))
    for row_cells in cells:
        # As Text, since rich would read brackets in names as markup.
        grid.add_row(*map(Text, row_cells))
    out.print(grid)


def show_scan_warnings() -> None:
    """Print warnings about scans as lines for the user, not as Python warnings."""
    show_other_warning = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, ScanWarning):
            say(f"Note: {message}")
        else:
            show_other_warning(message, category, *where, **more)

    warnings.showwarning = show
    warnings.simplefilter("default", ScanWarning)


class ProgressBars:
    """Show events as progress bars, in a terminal."""

    def __init__(self) -> None:
        self.bars = Bars(
            # Without markup, which would replace words such as :heart: with an emoji.
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=err,
        )
        self.current: tuple[str, TaskID] | None = None
        self.left = TimeLeft()

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bars.stop()

    def show(self, event: Event) -> None:
        if isinstance(event, Message):
            self.current = None
            self.bars.console.print(printable(event.text), markup=False)
        elif isinstance(event, Progress):
            self._advance(event.stage, event.done, event.total)
        elif isinstance(event, Step):
            self.left.update(event)
            self._advance("Training", event.step, event.total, _describe(event) + _time(self.left))
        elif isinstance(event, Validation):
            self.bars.console.print(_describe(event), markup=False)

    def _advance(self, stage: str, done: int, total: int, note: str = "") -> None:
        if self.current is None or self.current[0] != stage or done <= 1:
            self.current = (stage, self.bars.add_task(stage, total=total, note=note))
        self.bars.update(self.current[1], completed=done, note=note)


class ProgressLines:
    """Show events as plain lines at intervals, in a log file."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.left = TimeLeft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def show(self, event: Event) -> None:
        if isinstance(event, Message):
            say(event.text)
            return
        if isinstance(event, Validation):
            say(f"  {_describe(event)}")
            return
        if isinstance(event, Step):
            self.left.update(event)
        is_last = isinstance(event, Step) and event.step == event.total
        if not is_last and time.monotonic() - self.last < PLAIN_INTERVAL:
            return
        self.last = time.monotonic()
        if isinstance(event, Progress):
            say(f"  {event.stage}: {event.done} of {event.total}")
        elif isinstance(event, Step):
            say(f"  step {event.step} of {event.total}, {_describe(event)}{_time(self.left)}")
