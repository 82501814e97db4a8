"""Exit codes of the program, and which error leads to which.

====  ===============================================================================
code  meaning
====  ===============================================================================
0     Success.
2     An error that the user can correct; one plain line on standard error describes it.
130   Interrupted with Ctrl-C.
====  ===============================================================================

If several processes train together, the first one reports for all. Any other exception is a bug:
it ends the program with a traceback and code 1.
"""

import sys
import time
from io import TextIOWrapper
from typing import Any

import typer

from napari_sslseg.cli.console import Interrupted, fail, print_table, show_scan_warnings
from napari_sslseg.cli.interrupts import INTERRUPTED
from napari_sslseg.cli.unquoted import quoting_hint
from napari_sslseg.core.common.compute.distributed import is_first, rank
from napari_sslseg.core.common.errors import ClassesError, SslsegError

SUCCESS = 0
USER_ERROR = 2

PROGRAM = "napari-sslseg"
REPORT_SECONDS = 5.0
"""Time that the first process has to report an error before another process does."""

# Newer versions of Typer have their own copy of click, so the class is looked up, not imported.
USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def run_app(app: typer.Typer) -> int:
    """Run the command line with ``sys.argv`` and return the exit code."""
    _replace_unprintable_characters()
    show_scan_warnings()
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False, prog_name=PROGRAM)
    except SslsegError as error:
        return _report_from_one_process(error)
    except Interrupted as error:
        if not is_first():
            return SUCCESS
        fail(error.args[0])
        return INTERRUPTED
    except (KeyboardInterrupt, typer.Abort):
        fail("Interrupted.")
        return INTERRUPTED
    except MemoryError:
        fail("Out of memory; use fewer or smaller scans, or a smaller batch.")
        return USER_ERROR
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(f"{where}{error.strerror or error}; check the path and the disk. {_hint()}".rstrip())
        return USER_ERROR
    except USAGE_ERROR as error:
        command = getattr(getattr(error, "ctx", None), "command_path", PROGRAM)
        message = error.format_message().rstrip(".")
        # Newer versions of click ask at the end: Did you mean 'pretrain'?
        message += "" if message.endswith("?") else "."
        fail(" ".join(filter(None, [message, _hint(), f"See {command} --help."])))
        return USER_ERROR
    if code == INTERRUPTED:
        # Newer versions of Typer return this code and print nothing.
        fail("Interrupted.")
    # The code of typer.Exit, or what the command returned.
    return code if isinstance(code, int) else SUCCESS


def _replace_unprintable_characters() -> None:
    """Print a question mark where a terminal has no such character, such as a dash in ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _hint() -> str:
    return quoting_hint(sys.argv[1:])


def _report_from_one_process(error: SslsegError) -> int:
    if is_first():
        sentence = error.sentence if isinstance(error, ClassesError) else str(error)
        fail(f"{sentence} {_hint()}".rstrip())
        if isinstance(error, ClassesError):
            print_table(error.table)
    else:
        # If the first process has the same error, it ends this one while it waits.
        time.sleep(REPORT_SECONDS)
        fail(f"process {rank()}: {error}")
    return USER_ERROR
