"""An interrupted and resumed training gives the same weights, bit for bit."""

import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from napari_sslseg.core.common.compute.devices import make_fabric
from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.common.events import (
    Done,
    Message,
    PauseFlag,
    Saved,
    Status,
    Step,
    StopFlag,
    Validation,
)
from napari_sslseg.core.runs.event_log import EventLog, record_events
from napari_sslseg.core.runs.run import Run, RunWriter
from napari_sslseg.core.runs.states.state_files import newest_state
from napari_sslseg.core.settings.training import EarlyStopping, Training
from napari_sslseg.core.training.job import TrainingJob
from napari_sslseg.core.training.sampler import BatchSequence, shuffled_batches
from napari_sslseg.core.training.save_interval import SaveInterval
from napari_sslseg.core.training.train import run_job, train

STEPS = 24


pytestmark = pytest.mark.usefixtures("one_thread")


class Net(nn.Module):
    """Network with all kinds of state: weights, running averages, dropout."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)
        )

    def forward(self, x):
        return self.body(x)


def make_job(**changes):
    options = {"steps": STEPS, "batch_size": 4, "learning_rate": 0.05} | changes
    splits = options.pop("splits", True)
    settings = Training(**options)
    xs = torch.linspace(-1, 1, 30).reshape(10, 3)
    share = [0.0]

    def loss(model, indices, generator):
        x = xs[indices]
        noise = 0.1 * torch.randn(len(x), 1, generator=generator)
        return (1 + share[0]) * (model(x) - x.sum(1, keepdim=True) + noise).square().mean()

    def validate(model):
        return {"loss": float((model(xs) - xs.sum(1, keepdim=True)).square().mean())}

    torch.manual_seed(settings.seed)
    return TrainingJob(
        model=Net(),
        settings=settings,
        batches=shuffled_batches(np.arange(10), settings.batch_size),
        steps_per_epoch=3,
        loss=loss,
        validate=validate,
        begin_epoch=lambda progress: share.__setitem__(0, progress),
        splits=splits,
    )


def begin(folder):
    return RunWriter(folder, {"kind": "pretrain", "settings": {}})


def state_of(folder, training=None):
    events = newest_state(folder, training)
    try:
        while True:
            next(events)
    except StopIteration as end:
        return end.value


def drain(work, writer, state=None, stop=None, after=None):
    """Train, and stop after a number of steps."""
    events = []
    for event in train(work, writer, make_fabric("cpu"), stop, None, state):
        events.append(event)
        if isinstance(event, Step) and event.step == after:
            stop.set()
    return events


def go_on(folder, **changes):
    torch.manual_seed(77)  # Another random state, as in a new process.
    work = make_job(**changes)
    torch.rand(13)
    state = state_of(folder, work.settings)
    writer = RunWriter.resumed(Run.open(folder), state.numbers["rows"])
    events = drain(work, writer, state)
    return work.model, events


KINDS = {
    "adam": {},
    "sgd": {"optimizer": "sgd", "learning_rate": 1e-3, "weight_decay": 0.1},
    "restarts": {"schedule": "cosine-restarts", "restart_every": 2},
    "plateau": {"schedule": "plateau", "plateau_patience": 0},
    "step-decay": {"schedule": "step-decay"},
    "clipped": {"gradient_clip": 0.1},
    "patient": {"early_stopping": EarlyStopping(min_delta=0.01, patience=3), "steps": 60},
    "bf16": {"precision": "bf16-mixed"},
}


def same(one, two):
    other = two.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [1, 3, 8, 17])
def test_resuming_gives_the_same_weights(tmp_path, kind, after):
    options = KINDS[kind]
    whole = make_job(**options)
    drain(whole, begin(tmp_path / "whole"))
    stop = StopFlag()
    drain(make_job(**options), begin(tmp_path / "cut"), stop=stop, after=after)
    model, events = go_on(tmp_path / "cut", **options)
    assert same(whole.model, model)
    assert next(e.step for e in events if isinstance(e, Step)) == after + 1
    for name in ("metrics.csv", "best.safetensors", "last.safetensors"):
        one, two = ((tmp_path / run / name).read_bytes() for run in ("whole", "cut"))
        assert one == two, name


def test_closing_at_any_event_equals_a_stop(tmp_path):
    whole = make_job()
    n = len(drain(whole, begin(tmp_path / "whole")))
    for left in range(1, n - 1, 3):
        folder = tmp_path / str(left)
        events = train(make_job(), begin(folder), make_fabric("cpu"))
        for _ in range(left):
            next(events)
        events.close()
        model, _ = go_on(folder)
        assert same(whole.model, model), left


def test_many_interruptions_give_the_same_weights(tmp_path):
    whole = make_job()
    drain(whole, begin(tmp_path / "whole"))
    stop = StopFlag()
    stop.set()
    drain(make_job(), begin(tmp_path / "cut"), stop=stop)
    for after in (2, 3, 9, 10, 20):
        stop, work = StopFlag(), make_job()
        state = state_of(tmp_path / "cut", work.settings)
        writer = RunWriter.resumed(Run.open(tmp_path / "cut"), state.numbers["rows"])
        drain(work, writer, state, stop, after)
    model, _ = go_on(tmp_path / "cut")
    assert same(whole.model, model)
    one, two = ((tmp_path / run / "metrics.csv").read_text() for run in ("whole", "cut"))
    assert one == two


def test_an_interrupt_within_a_step_keeps_the_last_state(tmp_path, monkeypatch):
    monkeypatch.setattr(SaveInterval, "due", lambda *_: True)
    whole = make_job()
    drain(whole, begin(tmp_path / "whole"))
    work, calls = make_job(), []

    def loss(*arguments):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return work.loss(*arguments)

    with pytest.raises(KeyboardInterrupt):
        drain(replace(work, loss=loss), begin(tmp_path / "cut"))
    assert state_of(tmp_path / "cut").step == 5
    model, _ = go_on(tmp_path / "cut")
    assert same(whole.model, model)


def test_other_slices_are_refused(tmp_path):
    stop = StopFlag()
    drain(make_job(), begin(tmp_path), stop=stop, after=4)
    work = replace(make_job(), batches=shuffled_batches(np.arange(11), 4))
    state = state_of(tmp_path)
    with pytest.raises(CheckpointError, match="other slices"):
        drain(work, RunWriter.resumed(Run.open(tmp_path), 0), state)


def test_a_batch_sequence_returns_to_its_position():
    sampler = shuffled_batches(np.arange(7), 3)
    one, two = BatchSequence(sampler, 5), BatchSequence(sampler, 5)
    for _ in range(9):
        one.next()
    two.skip_to(one.drawn)
    assert two.position == one.position
    np.testing.assert_array_equal(one.next(), two.next())


class TestPause:
    def start(self, folder, pause, stop=None):
        events = []
        work = make_job(steps=400)

        def run():
            for event in run_job(work, begin(folder), make_fabric("cpu"), stop, pause):
                events.append(event)
                if isinstance(event, Step) and event.step == 5:
                    pause.set()

        thread = threading.Thread(target=run)
        thread.start()
        deadline = time.monotonic() + 60
        while not any(isinstance(e, Status) for e in events) and time.monotonic() < deadline:
            time.sleep(0.01)
        return thread, events

    def test_it_saves_waits_and_continues(self, tmp_path):
        pause = PauseFlag()
        thread, events = self.start(tmp_path, pause)
        assert events[-1] == Status("paused", 5)
        assert any(isinstance(e, Message) and "Paused after step 5" in e.text for e in events)
        assert state_of(tmp_path).step == 5
        count, busy = len(events), time.process_time()
        time.sleep(0.5)
        assert len(events) == count
        assert time.process_time() - busy < 0.4  # It does not spin.
        pause.clear()
        thread.join(60)
        assert Status("running", 5) in events
        assert isinstance(events[-1], Done)
        assert not events[-1].stopped
        whole = make_job(steps=400)
        drain(whole, begin(tmp_path / "whole"))
        one, two = ((f / "last.safetensors").read_bytes() for f in (tmp_path, tmp_path / "whole"))
        assert one == two

    def test_a_stop_ends_the_pause(self, tmp_path):
        pause, stop = PauseFlag(), StopFlag()
        thread, events = self.start(tmp_path, pause, stop)
        stop.set()
        thread.join(10)
        assert not thread.is_alive()
        assert events[-1].stopped
        assert state_of(tmp_path).step == 5


class TestSaveInterval:
    def pace(self, seconds=30.0, share=0.01, size=0):
        now = [0.0]
        return now, SaveInterval(seconds, share, size, clock=lambda: now[0])

    def save(self, now, pace, took):
        pace.begin()
        now[0] += took
        pace.end()

    def test_landmarks_are_saved_before_the_interval_ends(self):
        now, pace = self.pace()
        now[0] = 5
        assert pace.due(landmark=True)
        assert not pace.due()
        now[0] = 30
        assert pace.due()

    def test_saving_never_exceeds_its_fraction_of_the_time(self):
        now, pace = self.pace(seconds=1e-9)
        spent = 0.0
        while now[0] < 2000:
            now[0] += 0.1
            if pace.due(landmark=True):
                self.save(now, pace, 0.5)
                spent += 0.5
        assert 0.005 < spent / now[0] <= 0.01

    def test_a_slow_first_save_is_compensated(self):
        now, pace = self.pace(seconds=1e-9)
        now[0] = 1.5
        assert pace.due(landmark=True)
        self.save(now, pace, 1.0)
        now[0] = 150
        assert not pace.due(landmark=True)
        now[0] = 201
        assert pace.due(landmark=True)

    def test_the_first_save_is_estimated_from_its_size(self):
        now, pace = self.pace(size=400_000_000)
        now[0] = 100
        assert not pace.due(landmark=True)
        now[0] = 210
        assert pace.due(landmark=True)


class TestEventLog:
    def test_it_keeps_important_events_and_is_continued(self, tmp_path):
        (tmp_path / "run.json").write_text("{}")
        for fresh in (True, False):
            log = EventLog(tmp_path)
            early = [Message("before")]
            later = [
                Step(1, 2, 0.5, 0.1, 3.0),
                Validation(1, 0, {"dice": 0.5}, True),
                Saved(tmp_path / "last.safetensors", 1),
                Done(Run(tmp_path, {"status": "finished"})),
            ]

            def events(log=log, early=early, later=later, fresh=fresh):
                yield from early
                log.open(fresh=fresh)
                yield from later

            assert list(record_events(events(), log)) == early + later
            with (tmp_path / "events.jsonl").open("a") as file:
                file.write('{"time": "cut off by a cra')
        lines = (tmp_path / "events.jsonl").read_text().splitlines()[:-1]
        found = [json.loads(line) for line in lines]
        assert [line["event"] for line in found] == ["Message", "Validation", "Saved", "End"] * 2
        assert found[2]["path"] == "last.safetensors"
        assert found[3]["status"] == "finished"

    def test_an_error_is_the_last_entry(self, tmp_path):
        log = EventLog(tmp_path)

        def events():
            log.open(fresh=True)
            yield Message("x")
            raise CheckpointError("What is wrong.")

        with pytest.raises(CheckpointError):
            list(record_events(events(), log))
        last = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])
        assert (last["status"], last["text"]) == ("failed", "What is wrong.")


def test_the_work_that_is_left_counts_later_steps_that_take_longer():
    settings = Training(steps=10)
    job = TrainingJob(nn.Linear(1, 1), settings, lambda rng: iter(()), 1, None, costs=((4, 2.0),))
    assert [job.cost(step) for step in (0, 3, 4, 9)] == [1, 1, 2, 2]
    assert [job.cost_left(step) for step in (0, 3, 4, 9, 10)] == [16, 13, 12, 2, 0]
    plain = TrainingJob(nn.Linear(1, 1), settings, lambda rng: iter(()), 1, None)
    assert plain.cost_left(3) == 7
