"""Lists of runs, also of damaged ones, and differences between two runs."""

import json
import subprocess
import sys

import pytest

import command_line
from napari_sslseg.core.common.errors import CheckpointError, ConfigError, DataError, StorageError
from napari_sslseg.core.runs.listing import list_runs, run_differences
from napari_sslseg.core.runs.run import Run, RunWriter
from napari_sslseg.core.runs.tensorboard import write_events
from napari_sslseg.core.settings.networks import Network
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings
from napari_sslseg.core.settings.training import Training


def write_run(folder, kind, steps=10, best=None, **record):
    model = PretrainSettings if kind == "pretrain" else FinetuneSettings
    settings = model(network=Network.preset("tiny"), training=Training(steps=steps))
    folder.mkdir(parents=True)
    values = {"kind": kind, "settings": settings.model_dump(mode="json"), "scans": ["a", "b"]}
    writer = RunWriter(folder, values | record)
    writer.row({"step": 1, "loss": 0.5})
    writer.row({"step": 1, "validation_dice": 0.25})
    writer.finish("finished")
    if best is not None:
        (folder / "best.json").write_text(json.dumps({"metrics": best}))
    return Run.open(folder)


@pytest.fixture
def folder(tmp_path):
    task = {"kind": "mae", "ratio": 0.5}
    write_run(tmp_path / "a" / "pre", "pretrain", init="scratch", task=task, best={"loss": 0.125})
    write_run(tmp_path / "ft", "finetune", steps=20, init="pre", best={"dice": 0.75, "loss": 2})
    return tmp_path


def test_runs_are_found_at_any_depth(folder):
    first, second = list_runs(folder)
    assert (first.name, first.kind, first.learnt) == ("a/pre", "pretrain", "mae")
    assert (first.network, first.scans, first.steps, first.best) == ("unet2d", 2, 10, 0.125)
    assert (second.name, second.learnt, second.best) == ("ft", "pre", 0.75)
    assert second.status == "finished"
    assert second.seconds is not None
    assert second.seconds < 60
    (alone,) = list_runs(folder / "ft")
    assert alone.name == "ft"
    with pytest.raises(DataError, match="does not exist"):
        list_runs(folder / "nowhere")


def test_a_folder_within_a_run_is_not_searched(folder):
    write_run(folder / "ft" / "slices" / "inner", "finetune")
    assert [run.name for run in list_runs(folder)] == ["a/pre", "ft"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 10_000,
        '{"format": 9}',
        '{"format": 1, "kind": "finetune", "settings": 3}',
        '{"format": 1, "kind": "\\u001b[2J", "settings": {}}',
    ],
)
def test_a_damaged_run_is_listed_with_the_reason(folder, text):
    (folder / "ft" / "run.json").write_text(text)
    first, second = list_runs(folder)
    assert first.problem is None
    assert str(folder / "ft") in second.problem
    assert "\n" not in second.problem


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {}},
        {"settings": {"network": 3, "training": [], "preset": [1]}},
        {"settings": {"training": {"steps": "many"}}},
        {"started": "yesterday"},
        {"finished": None},
    ],
)
def test_values_missing_from_a_record_are_none(folder, changes):
    path = folder / "ft" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    (folder / "ft" / "best.json").write_text('{"metrics": [1]}')
    summary = list_runs(folder)[1]
    assert summary.problem is None
    assert summary.best is None
    assert (summary.steps is None) == ("settings" in changes)
    assert (summary.seconds is None) == ("settings" not in changes)


def test_differences_list_the_settings_that_differ(folder):
    first = Run.open(folder / "ft")
    second = write_run(folder / "ft2", "finetune", steps=30, init="pre")
    assert run_differences(first, second) == [("settings.training.steps", 20, 30)]
    assert run_differences(first, first) == []
    other = {place: (a, b) for place, a, b in run_differences(first, Run.open(folder / "a/pre"))}
    assert other["task.kind"] == (None, "mae")
    assert other["settings.loss"] == ("dice-ce", None)


def test_listing_loads_no_torch(folder):
    code = (
        "import sys\nfrom napari_sslseg.core.runs.listing import list_runs\n"
        f"assert len(list_runs({str(folder)!r})) == 2\n"
        "assert not {'torch', 'numpy', 'monai'} & set(sys.modules), 'too much'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_lists_and_compares(folder):
    (folder / "bad [red]").mkdir()
    (folder / "bad [red]" / "run.json").write_text("{}")
    done = command_line.run("runs", folder)
    assert done.returncode == 0, done.stderr
    assert "a/pre" in done.stdout
    assert "0.750" in done.stdout
    assert "Not usable: The record of" in done.stderr
    assert "bad [red]" in done.stderr
    assert "2 of 3" in done.stderr
    listed = json.loads(command_line.run("runs", folder, "--json").stdout)
    assert [run["name"] for run in listed] == ["a/pre", "bad [red]", "ft"]
    assert listed[1]["problem"]
    done = command_line.run("runs", folder, "--compare", "ft", "a/pre", "--json")
    assert json.loads(done.stdout)["settings.training.steps"] == [20, 10]
    done = command_line.run("runs", folder, "--compare", "ft", "bad [red]")
    assert done.returncode == 2
    assert done.stderr.startswith("napari-sslseg: The record of")


def test_control_characters_of_a_record_are_not_printed(folder):
    path = folder / "ft" / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"init": "\x1b]0;owned\x07[bold]x", "status": "\x1b[2J"}))
    done = command_line.run("runs", folder)
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout
    assert r"\x1b]0;owned\x07[bold]x" in done.stdout


def test_metrics_are_written_as_tensorboard_events(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = Run.open(folder / "ft")
    assert write_events(run, folder / "logs" / "ft") == 2
    events = accumulator.EventAccumulator(str(folder / "logs" / "ft")).Reload()
    assert events.Tags()["scalars"] == ["loss", "validation/dice"]
    assert [(e.step, e.value) for e in events.Scalars("validation/dice")] == [(1, 0.25)]
    with pytest.raises(StorageError, match="already has event files"):
        write_events(run, folder / "logs" / "ft")
    (folder / "ft" / "metrics.csv").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        write_events(run, folder / "logs" / "other")


def test_without_tensorboard_an_error_is_raised(folder, monkeypatch):
    monkeypatch.setattr("napari_sslseg.core.runs.tensorboard.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install"):
        write_events(Run.open(folder / "ft"), folder / "logs")
