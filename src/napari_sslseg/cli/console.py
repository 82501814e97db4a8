"""What the command line shows: progress, messages, results, and how it ends."""

import signal
import sys
import time
import warnings
from collections.abc import Iterator
from io import TextIOWrapper
from types import FrameType
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress as Bars,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from napari_sslseg.core.common.compute.distributed import is_first, rank
from napari_sslseg.core.common.errors import ScanWarning, SslsegError
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

USER_ERROR = 2
INTERRUPTED = 130
PLAIN_INTERVAL = 10.0
SECOND_TO_SPEAK = 5.0

# Typer carries its own copy of click in newer versions, so the class is found, not imported.
USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
out = Console(highlight=False, soft_wrap=True, emoji=False)


class Interrupted(Exception):  # noqa: N818
    """The user pressed Ctrl-C; the argument says what is left."""


def fail(message: str) -> None:
    """Print one plain line on standard error."""
    # Not through rich: paths may hold brackets, which rich would take for markup.
    print(f"napari-sslseg: {printable(message)}", file=sys.stderr)


def say(message: str) -> None:
    """Print one line for the user on standard error, where it does not disturb results."""
    err.print(printable(message), markup=False)


def follow(events: Iterator[Event], stop: StopFlag) -> Any:
    """Show a job's events and return its result.

    Ctrl-C asks the job to stop and save; a second one ends it at once.

    Raises
    ------
    Interrupted
        After the job has stopped and saved because of Ctrl-C.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        if stop.is_set:
            raise KeyboardInterrupt
        stop.set()
        if not is_first():
            return
        say("Stopping after this step; press Ctrl-C again to stop at once.")

    before = signal.signal(signal.SIGINT, interrupt)
    view = _Bars() if err.is_terminal and is_first() else _Lines()
    try:
        with view:
            for event in events:
                if isinstance(event, Done):
                    if event.stopped:
                        raise Interrupted(_how_stopped(event.result))
                    return event.result
                if is_first():
                    view.show(event)
    finally:
        signal.signal(signal.SIGINT, before)
    raise AssertionError("a job ends with Done")


def _how_stopped(result: Any) -> str:
    if result is None:
        return "Stopped before the end, so there is no result."
    # A run, unlike a list of files.
    on = "; --resume goes on with it" if hasattr(result, "record") else ""
    return f"Stopped; what was done so far is saved{on}."


def _describe(event: Step | Validation) -> str:
    if isinstance(event, Step):
        return f"loss {event.loss:.4g}"
    figures = ", ".join(f"{name} {value:.4g}" for name, value in event.metrics.items())
    return f"validation at step {event.step}: {figures}" + (" (best)" if event.improved else "")


def table(titles: list[str], rows: list[list[Any]]) -> None:
    """Print rows on standard output; numbers with three decimals, a dash for None."""
    cells = [
        ["–" if v is None else f"{v:.3f}" if isinstance(v, float) else printable(v) for v in row]
        for row in rows
    ]
    grid = Table(box=None, header_style="bold")
    for title, *column in zip(titles, *cells, strict=True):
        # Titles may be wrapped where the terminal is narrow, cells never.
        grid.add_column(title, no_wrap=False, min_width=max(map(len, column), default=1))
    for row_cells in cells:
        # As text, since names may hold brackets, which rich would take for markup.
        grid.add_row(*map(Text, row_cells))
    out.print(grid)


def run_app(app: typer.Typer) -> int:
    """Run the command line; its exit code.

    A user's error is one plain line and code 2; Ctrl-C is code 130.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # Where the terminal knows only ASCII, a dash must not end the program.
            stream.reconfigure(errors="replace")
    arguments = sys.argv[1:] or ["--help"]
    _tell_notes()
    try:
        code = app(arguments, standalone_mode=False, prog_name="napari-sslseg")
    except SslsegError as error:
        if not is_first():
            # What the first process says as well ends this one before its turn.
            time.sleep(SECOND_TO_SPEAK)
        fail(str(error) if is_first() else f"process {rank()}: {error}")
        return USER_ERROR
    except Interrupted as error:
        if not is_first():
            return 0
        fail(error.args[0])
        return INTERRUPTED
    except (KeyboardInterrupt, typer.Abort):
        fail("Interrupted.")
        return INTERRUPTED
    except MemoryError:
        fail("Out of memory; take fewer or smaller scans, or a smaller batch.")
        return USER_ERROR
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(f"{where}{error.strerror or error}; check the path and the disk.")
        return USER_ERROR
    except USAGE_ERROR as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "napari-sslseg")
        fail(f"{error.format_message().rstrip('.')}. See {command} --help.")
        return USER_ERROR
    return code if isinstance(code, int) else 0


def _tell_notes() -> None:
    """Say what is worth knowing about scans as lines for the user, not as Python warnings."""
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, ScanWarning):
            say(f"Note: {message}")
        else:
            others(message, category, *where, **more)

    warnings.showwarning = show
    warnings.simplefilter("default", ScanWarning)


class _Bars:
    """Progress bars, for a terminal."""

    def __init__(self) -> None:
        self.bars = Bars(
            # Without markup, which would also put pictures in the place of words such as :heart:.
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=err,
        )
        self.current: tuple[str, TaskID] | None = None

    def __enter__(self) -> "_Bars":
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
            self._advance("Training", event.step, event.total, _describe(event))
        elif isinstance(event, Validation):
            self.bars.console.print(_describe(event), markup=False)

    def _advance(self, stage: str, done: int, total: int, note: str = "") -> None:
        if self.current is None or self.current[0] != stage or done <= 1:
            self.current = (stage, self.bars.add_task(stage, total=total, note=note))
        self.bars.update(self.current[1], completed=done, note=note)


class _Lines:
    """A plain line now and then, for a log file."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __enter__(self) -> "_Lines":
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
        ends = isinstance(event, Step) and event.step == event.total
        if not ends and time.monotonic() - self.last < PLAIN_INTERVAL:
            return
        self.last = time.monotonic()
        if isinstance(event, Progress):
            say(f"  {event.stage}: {event.done} of {event.total}")
        elif isinstance(event, Step):
            say(f"  step {event.step} of {event.total}, {_describe(event)}")
