"""Run the command line in a process of its own, and check how it refuses."""

import subprocess
import sys

COMMAND = [sys.executable, "-c", "from napari_sslseg.cli.app import main; main()"]


def run(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=280, **options
    )


def refused(done, *words):
    """The command ended as a user's error should: code 2, one plain line, no traceback."""
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("napari-sslseg: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.splitlines()[-1] == lines[0]
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0]
    return True
