"""Exit codes, and the ways to start the program, in real processes."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from command_line import refused, run
from napari_sslseg.cli.console import Interrupted
from napari_sslseg.cli.exit_codes import run_app
from napari_sslseg.core.common.errors import ConfigError

PROGRAM = Path(sys.executable).with_name("napari-sslseg")

STARTS = {
    "package": [sys.executable, "-m", "napari_sslseg"],
    "cli": [sys.executable, "-m", "napari_sslseg.cli"],
    "entry point": [sys.executable, "-c", "from napari_sslseg.cli.app import main; main()"],
    "entry point of version 0.1": [
        sys.executable,
        "-c",
        "from napari_sslseg.cli import main; main()",
    ],
    "program": [str(PROGRAM)],
}


@pytest.mark.parametrize("start", STARTS)
def test_every_way_to_start_the_program(start, tmp_path):
    if start == "program" and not PROGRAM.exists():
        pytest.skip("the package is not installed as a program")
    done = subprocess.run(
        [*STARTS[start], "series", str(tmp_path / "nowhere")], capture_output=True, text=True
    )
    assert refused(done, "nowhere")


def test_help_and_version_are_no_errors():
    assert "Usage: napari-sslseg" in run("--help").stdout
    assert run().stdout == run("--help").stdout
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (None, 0, ""),
        (ConfigError("The size is 7."), 2, "The size is 7."),
        (MemoryError(), 2, "memory"),
        (FileNotFoundError(2, "No such file", "scan.nii"), 2, "scan.nii"),
        (Interrupted("Saved."), 130, "Saved."),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (typer.Exit(2), 2, ""),
    ],
)
def test_the_exit_code_of_each_error(monkeypatch, capsys, error, code, words):
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.callback()(lambda: None)

    @app.command()
    def work() -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(sys, "argv", ["napari-sslseg", "work"])
    assert run_app(app) == code
    stderr = capsys.readouterr().err
    assert words in stderr
    assert len(stderr.splitlines()) == bool(words)


def test_a_programming_error_is_not_hidden(monkeypatch):
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.callback()(lambda: None)

    @app.command()
    def work() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["napari-sslseg", "work"])
    with pytest.raises(ZeroDivisionError):
        run_app(app)


@pytest.mark.parametrize("words", [["pretrian"], ["finetune", "--label", "x"], ["nonsense"]])
def test_a_usage_error_ends_with_one_mark(words):
    done = run(*words)
    assert done.returncode == 2
    assert "?." not in done.stderr
    assert ".." not in done.stderr
    assert done.stderr.rstrip().endswith("--help.")


@pytest.mark.parametrize(
    "line",
    [
        ("series", "my", "scans"),
        ("finetune", "--images", "my", "scans", "--labels", "x", "--out", "o"),
        ("predict", "run", "my", "scans/p", "0", "--out", "o"),
        ("runs", "my", "scans"),
    ],
)
def test_a_path_without_quotes_is_named(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my scans" / "p 0").mkdir(parents=True)
    word = '"my scans/p 0"' if "0" in line else '"my scans"'
    assert refused(run(*line), "needs quotes", word)
    assert "quotes" not in run("series", "another", "folder").stderr


def test_two_runs_lead_to_compare(tmp_path):
    assert refused(run("runs", tmp_path / "a", tmp_path / "b"), "--compare", str(tmp_path / "b"))
