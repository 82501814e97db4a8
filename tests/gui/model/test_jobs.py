"""Background jobs: delivery of events, outcomes, pausing and thread priority."""

import os
import sys
import threading
import time

import pytest

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.events import Done, Message, Preview, Progress, Step
from napari_sslseg.gui.model import jobs
from napari_sslseg.gui.model.jobs import Job
from napari_sslseg.gui.model.session_jobs import SessionJobs
from patience import LIMIT


def step(number):
    return Step(number, 100, 1.0 / number, learning_rate=0.1, images_per_second=8.0)


class Heard:
    """A job that records its events and outcome."""

    def __init__(self, events):
        self.lists, self.outcomes, self.statuses = [], [], []
        self.job = Job("pretrain", "Pretraining", events)
        self.job.new_events.connect(self.lists.append)
        self.job.ended.connect(self.outcomes.append)
        self.job.changed.connect(lambda: self.statuses.append(self.job.status))

    @property
    def delivered(self):
        return [event for events in self.lists for event in events]

    def until(self, condition, seconds=LIMIT):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end
            self.job.pump()
            time.sleep(0.001)

    def run(self):
        self.job.start()
        self.until(lambda: bool(self.outcomes))
        (outcome,) = self.outcomes
        return outcome


def test_progress_is_delivered_at_intervals_and_completely(monkeypatch):
    monkeypatch.setattr(jobs, "PROGRESS_SECONDS", 0.3)
    steps = [step(number) for number in range(1, 41)]
    end = threading.Event()

    def events(stop, pause):
        for item in steps:
            yield item
            time.sleep(0.02)
        end.set()
        yield Done("run")

    heard = Heard(events)
    assert heard.run().result == "run"
    assert heard.delivered == steps
    # About 0.8 s: at once, every 0.3 s, and at the end; not at each of hundreds of pumps.
    assert len(heard.lists) <= 6


def test_messages_and_previews_are_delivered_at_once(monkeypatch):
    monkeypatch.setattr(jobs, "PROGRESS_SECONDS", 1000.0)
    go_on = threading.Event()
    picture = Preview(step=1, picture="picture")

    def events(stop, pause):
        yield step(1)
        yield Progress("Reading", 1, 2)
        yield Message("A word.")
        go_on.wait(10)
        yield step(2)
        yield picture
        yield Done(None)

    heard = Heard(events)
    heard.job.start()
    heard.until(lambda: Message("A word.") in heard.delivered)
    assert heard.delivered == [step(1), Progress("Reading", 1, 2), Message("A word.")]
    go_on.set()
    heard.until(lambda: bool(heard.outcomes))
    assert heard.delivered[3:] == [step(2), picture]


def test_only_the_last_of_several_previews_is_delivered():
    pictures = [Preview(step=number, picture=number) for number in (1, 2, 3)]
    heard = Heard(lambda stop, pause: iter([*pictures, Done(None)]))
    heard.job.start()
    assert heard.job.wait(10)
    heard.job.pump()
    assert heard.delivered == [pictures[-1]]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DataError("No scan is there; add one."), "No scan is there; add one."),
        (MemoryError(), "Out of memory"),
        (OSError(28, "No space left on device", "a.nii"), "a.nii: No space left on device"),
        (RuntimeError("inside"), "Unexpected error (RuntimeError)"),
        (SystemExit(3), "Unexpected error (SystemExit)"),
    ],
)
def test_every_error_becomes_a_problem_with_a_sentence(error, words):
    def events(stop, pause):
        yield step(1)
        raise error

    heard = Heard(events)
    outcome = heard.run()
    assert outcome.problem.sentence.startswith(words)
    assert type(error).__name__ in outcome.problem.details
    assert heard.delivered == [step(1)]
    assert heard.statuses == ["failed"]


def test_a_paused_job_can_be_stopped():
    def events(stop, pause):
        number = 0
        while not stop.is_set:
            number += 1
            yield Message(str(number))
            time.sleep(0.001)
            if pause.is_set:
                pause.wait(0.05)
        yield Done(number, stopped=True)

    heard = Heard(events)
    heard.job.start()
    heard.until(lambda: bool(heard.delivered))
    heard.job.pause()
    assert heard.job.pausing
    heard.job.stop()
    heard.until(lambda: bool(heard.outcomes))
    assert heard.outcomes[0].stopped
    assert heard.statuses == ["stopping", "stopped"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a priority is of the whole program")
def test_jobs_run_at_lower_priority():
    found = []

    def events(stop, pause):
        child = threading.Thread(
            target=lambda: found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        )
        child.start()
        child.join()
        yield Done(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert Heard(events).run().result == before + jobs.NICE
    assert found == [before + jobs.NICE]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_the_start_of_a_job_is_announced_once_and_with_the_job():
    session, found = SessionJobs(), []
    session.jobs_changed.connect(lambda: found.append([job.kind for job in session.jobs]))
    job = session.run("work", "Working", lambda stop, pause: iter(()))
    assert found == [["work"]]
    job.wait()
    session.pump()
    assert found == [["work"], ["work"], []]
