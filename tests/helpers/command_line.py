"""Run the command line, in this process or in a separate one, and check its errors."""

import io
import subprocess
import sys
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

COMMAND = [sys.executable, "-m", "napari_sslseg"]


def run(*arguments):
    """Run a command in this process, which saves the time to start Python and load PyTorch.

    Returns the same as :func:`run_process`; a traceback is printed on standard error, code 1.
    """
    from napari_sslseg.cli.app import app
    from napari_sslseg.cli.exit_codes import run_app

    line = ["napari-sslseg", *map(str, arguments)]
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", line),
        warnings.catch_warnings(),
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        try:
            code = run_app(app)
        except Exception:  # noqa: BLE001
            traceback.print_exc()
            code = 1
    return subprocess.CompletedProcess(line, code, stdout.getvalue(), stderr.getvalue())


def run_process(*arguments, **options):
    """Run a command in a separate process."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=280, **options
    )


def refused(done, *words):
    """Check the report of a user's error: code 2, one plain line with ``words``, no traceback."""
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("napari-sslseg: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.splitlines()[-1] == lines[0]
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0]
    return True
