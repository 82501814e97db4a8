"""A record in which any value is null is opened, or refused in one sentence."""

import contextlib
import copy
import json
import shutil

import pytest

from fuzz_runs import places
from napari_sslseg.core.common.errors import CheckpointError, SslsegError
from napari_sslseg.core.common.events import Step, StopFlag
from napari_sslseg.core.results.predict import load_segmenter
from napari_sslseg.core.runs.lineage import find_data_use
from napari_sslseg.core.runs.listing import list_runs, run_differences
from napari_sslseg.core.runs.run import Run
from training_process import events

pytestmark = pytest.mark.usefixtures("one_thread")


def train(kind, out, steps, **options):
    stop = StopFlag()
    for event in events(kind, out, stop=stop, **options):
        if isinstance(event, Step) and event.step >= steps:
            stop.set()


@pytest.fixture(scope="module", params=["pretrain", "finetune"])
def stopped(request, tmp_path_factory):
    """Kind, folder and record of a run that was stopped."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    train(request.param, out, 2)
    record = json.loads((out / "run.json").read_text())
    record |= {"resumed": ["2026"], "problem": "none", "start": {"folder": "../a", "weights": "0"}}
    return request.param, out, record


def with_null(record, place):
    changed = inner = copy.deepcopy(record)
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = None
    return json.dumps(changed)


def first_of_lists(record):
    """Places of a record, of lists only in the first item."""
    return [p for p in places(record) if p and not any(type(k) is int and k for k in p)]


def test_runs_are_opened_listed_and_compared(stopped):
    kind, out, record = stopped
    before = (out / "run.json").read_text()
    for place in first_of_lists(record):
        (out / "run.json").write_text(with_null(record, place))
        list_runs(out.parent)
        with contextlib.suppress(SslsegError):
            run = Run.open(out)
            run_differences(run, run)
            run.metrics()
            with contextlib.suppress(SslsegError):
                find_data_use(run)
            run.training()
            if kind == "pretrain":
                run.task()
            elif len(place) < 4:  # Building a network takes longer.
                load_segmenter(run, "cpu")
    (out / "run.json").write_text(before)


@pytest.mark.parametrize("place", [("resumed",), ("processes",), ("versions",), ("started",)])
def test_a_run_with_a_null_is_resumed(stopped, tmp_path, place):
    kind, out, record = stopped
    shutil.copytree(out, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(with_null(record, place))
    train(kind, tmp_path / "run", 3, resume=True)
    assert len(Run.open(tmp_path / "run").record["resumed"]) >= 1


def test_a_run_without_preprocessing_is_not_resumed(stopped, tmp_path):
    kind, out, record = stopped
    shutil.copytree(out, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(with_null(record, ("settings", "preprocessing")))
    with pytest.raises(CheckpointError, match="lacks its preprocessing"):
        train(kind, tmp_path / "run", 3, resume=True)


@pytest.mark.slow
def test_runs_are_resumed_or_refused(stopped, tmp_path):
    kind, out, record = stopped
    for number, place in enumerate(first_of_lists(record)):
        if len(place) < 4:
            folder = tmp_path / str(number)
            shutil.copytree(out, folder)
            (folder / "run.json").write_text(with_null(record, place))
            with contextlib.suppress(SslsegError):
                train(kind, folder, 3, resume=True)
