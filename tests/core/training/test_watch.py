"""Previews of a running training, which must not change it."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_sslseg import core
from napari_sslseg.core.common.events import Preview
from napari_sslseg.core.settings.pretext.registry import make_task

TINY = core.Network.preset("tiny")


@pytest.fixture(scope="module")
def patients():
    """Scans with labels; the last scan is larger than the others."""
    shapes = [(8, 48, 40)] * 3 + [(9, 70, 50)]
    return [core.make_patient(seed, shape=shape) for seed, shape in enumerate(shapes)]


def training(steps):
    return core.Training(steps=steps, batch_size=4, seed=2)


def pretrain(patients, out, task, watch=None):
    settings = core.PretrainSettings(network=TINY, training=training(4))
    scans = [scan for scan, _ in patients[:3]]
    events = list(core.iter_pretrain(scans, task, out=out, settings=settings, watch=watch))
    return events[-1].result, [event for event in events if isinstance(event, Preview)]


def finetune(patients, out, watch=None):
    settings = core.FinetuneSettings(network=TINY, training=training(5))
    labelled = [core.LabelledScan(*pair) for pair in patients[:3]]
    events = list(core.iter_finetune(labelled, out=out, settings=settings, watch=watch))
    return events[-1].result, [event for event in events if isinstance(event, Preview)]


def assert_same_weights(one, other):
    mine, theirs = (load_file(run.folder / "last.safetensors") for run in (one, other))
    for name, values in mine.items():
        assert torch.equal(values, theirs[name]), name


@pytest.mark.parametrize("name", ["context-restoration", "mae", "models-genesis"])
def test_a_restoration_task_shows_the_watched_slice(patients, tmp_path, name):
    watch = core.Watch(seconds=0, share=1e9)
    scan = patients[1][0]
    watch.look_at(scan, 3)
    run, shown = pretrain(patients, tmp_path / "a", make_task(name, (48, 48)), watch)
    assert [event.step for event in shown] == [1, 2, 3, 4]
    first, last = shown[0].picture, shown[-1].picture
    store = core.SliceStore.build(
        [s for s, _ in patients[:3]], run.settings(core.PretrainSettings).preprocessing
    )
    place = store.scans[1].start + 3
    np.testing.assert_array_equal(last.original, store.batch(np.array([place])).numpy())
    # The corruption is constant; only the output of the network changes.
    np.testing.assert_array_equal(first.corrupted, last.corrupted)
    assert not np.array_equal(first.restored, last.restored)
    plain, none = pretrain(patients, tmp_path / "b", make_task(name, (48, 48)))
    assert none == []
    assert_same_weights(run, plain)


@pytest.mark.parametrize("name", ["global-contrast", "polycl", "volume-fusion"])
def test_a_contrastive_task_shows_some_slices(patients, tmp_path, name):
    watch = core.Watch(seconds=0, share=1e9)
    watch.look_at(patients[0][0], 2)
    run, shown = pretrain(patients, tmp_path / "a", make_task(name, (48, 48)), watch)
    assert len(shown) == 4
    assert len(shown[0].picture.original) == 4
    plain, _ = pretrain(patients, tmp_path / "b", make_task(name, (48, 48)))
    assert_same_weights(run, plain)


def test_the_last_preview_equals_the_prediction(patients, tmp_path):
    watch = core.Watch(seconds=0, share=1e9)
    scan = patients[2][0]
    watch.look_at(scan, 5)
    run, shown = finetune(patients, tmp_path / "a", watch)
    assert [event.step for event in shown] == [1, 2, 3, 4, 5]
    picture = shown[-1].picture
    assert (picture.scan, picture.plane, picture.index) == (scan.name, "axial", 5)
    predicted = core.predict(run, scan)
    np.testing.assert_array_equal(picture.labels, predicted.labels[5])
    np.testing.assert_allclose(picture.uncertainty, predicted.uncertainty[5], atol=1e-3)
    plain, _ = finetune(patients, tmp_path / "b")
    assert_same_weights(run, plain)


@pytest.mark.parametrize("train", [finetune, pretrain], ids=["finetune", "pretrain"])
def test_a_scan_without_preview_does_not_end_the_training(patients, tmp_path, train):
    task = [make_task("context-restoration", (48, 48))] if train is pretrain else []
    watch = core.Watch(seconds=0, share=1e9)
    watch.look_at(core.make_patient(0, "CT", (8, 48, 40))[0], 2)
    run, shown = train(patients, tmp_path / "a", *task, watch)
    assert shown == []
    assert run.record["status"] == "finished"
    said = [line for line in (run.folder / "events.jsonl").read_text().splitlines() if "CT" in line]
    assert len(said) == 1
    plain, _ = train(patients, tmp_path / "b", *task)
    assert_same_weights(run, plain)


def test_a_scan_outside_the_training_is_shown_on_its_own_grid(patients, tmp_path):
    watch = core.Watch(seconds=0, share=1e9)
    scan = patients[3][0]
    watch.look_at(scan, 100)  # Beyond its last slice.
    run, shown = finetune(patients, tmp_path, watch)
    predicted = core.predict(run, scan)
    np.testing.assert_array_equal(shown[-1].picture.labels, predicted.labels[-1])


def test_previews_keep_their_interval_and_follow_changes(patients):
    now = [0.0]
    watch = core.Watch(seconds=2, share=0.1, clock=lambda: now[0])
    assert not watch.due
    watch.look_at(patients[0][0], 1)
    assert watch.due
    watch.shown(took=0.01)
    now[0] = 1.9
    assert not watch.due
    now[0] = 2.0
    assert watch.due
    # After a preview that takes a second, the next one comes ten seconds later.
    watch.shown(took=1)
    now[0] = 11.9
    assert not watch.due
    watch.look_at(patients[0][0], 2)
    assert not watch.due
    now[0] = 12.0
    assert watch.due
    watch.shown(took=0)
    watch.look_at(patients[0][0], 3)
    now[0] = 12.5
    assert watch.due
    watch.look_away()
    assert not watch.due
