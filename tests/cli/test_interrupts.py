"""Ctrl-C at any moment: one line and exit code 130, without a traceback."""

import os
import signal
import subprocess
import sys

import pytest

from paths import HELPERS
from small_scans import write_small_scans

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent as a signal")

# Presses Ctrl-C when a module is imported, when a line is printed, and when the process ends.
CODE = """
import atexit, os, signal, sys, time
from napari_sslseg.cli import main

moments = sys.argv.pop(1).split(",")

def press(moment):
    if moment in moments:
        moments.remove(moment)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)  # The signal is handled at the next instruction.

def imported(event, arguments):
    if event == "import":
        press(arguments[0])

sys.addaudithook(imported)
if "end" in moments:
    atexit.register(press, "end")
main()
"""


def press(moments, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", CODE, moments, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"},
        # The shell of the tests may have let it be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "KeyboardInterrupt" not in done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("napari-sslseg:")]


@pytest.mark.parametrize("moment", ["typer", "rich.progress", "napari_sslseg.cli.app", "end"])
def test_while_modules_are_loaded_and_when_the_process_ends(moment):
    assert press(moment, "presets") == ["napari-sslseg: Interrupted."]


@pytest.mark.parametrize("moments", ["torch", "torch,torch.nn", "lightning_fabric"])
def test_while_a_training_begins(tmp_path, moments):
    scans = write_small_scans(tmp_path / "scans", 1)
    assert len(press(moments, "pretrain", scans, "--out", tmp_path / "run", "--steps", "1")) == 1
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_second_time_in_a_training(tmp_path):
    out = tmp_path / "run"
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from napari_sslseg.cli import interrupts\n"
        "from napari_sslseg.cli.console import follow\n"
        "from napari_sslseg.cli.exit_codes import run_app\n"
        "from napari_sslseg.core.common.events import StopFlag\n"
        "from training_process import events\n"
        "import os, signal\n"
        "def slow(events):\n"
        "    for event in events:\n"
        "        if type(event).__name__ == 'Step' and event.step == 3:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "        yield event\n"
        "stop = StopFlag()\n"
        "interrupts.raise_on_interrupt()\n"
        "sys.exit(run_app(lambda *a, **k: follow(\n"
        "    slow(events('pretrain', Path(sys.argv[1]), 100000, stop=stop)), stop)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, out, HELPERS],
        capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"},
        # The shell of the tests may have let it be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "napari-sslseg: Interrupted."
    assert '"status": "stopped"' in (out / "run.json").read_text()
    assert (out / "last.safetensors").exists()


def test_a_process_in_the_background_goes_on_ignoring_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE, "typer", "presets"], capture_output=True, text=True,
        timeout=60, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
