"""PolyCL: selection of triplets, loss, training and preview."""

import json

import numpy as np
import pytest
import torch

import command_line
from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError, DataError
from napari_sslseg.core.common.events import Validation
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.pretext.contrast.losses import polycl
from napari_sslseg.core.runs.weights.checkpoints import load_weights
from napari_sslseg.core.samples.build import default_preprocessing
from napari_sslseg.core.stages.pretrain import iter_pretrain


@pytest.fixture(scope="module")
def patients():
    return [core.make_patient(number, "MR") for number in range(6)]


@pytest.fixture(scope="module")
def tags(patients):
    """Return the slices with liver (class 1) of all patients except the last two."""
    return {
        scan.name: tuple(int(i) for i in np.flatnonzero((labels.data == 1).any(axis=(1, 2))))
        for scan, labels in patients[:4]
    }


@pytest.fixture(scope="module")
def store(patients):
    return core.SliceStore.build([scan for scan, _ in patients], default_preprocessing("MR"))


def settings(**training):
    return core.PretrainSettings(
        network=core.Network.preset("tiny"),
        training=core.Training(steps=24, batch_size=6, learning_rate=3e-3, **training),
        validation_share=0.4,
    )


def task_of(store, **options):
    task = core.PolyCL(**options).build(store.size)
    task.set_store(store)
    return task


def test_batches_by_scan(store):
    task = task_of(store)
    batch = next(task.batches(store.indices(), 10)(np.random.default_rng(0)))
    anchor, positive, negative = store.scan_index[batch].reshape(3, 10)
    assert (anchor == positive).all()
    assert (anchor != negative).all()


@pytest.mark.parametrize("selection", ["organ", "scan+organ"])
def test_batches_by_organ_use_only_tagged_scans(store, patients, tags, selection):
    task = task_of(store, selection=selection, organ_slices=tags)
    batches = task.batches(store.indices(), 10)(np.random.default_rng(0))
    liver = np.concatenate([(labels.data == 1).any(axis=(1, 2)) for _, labels in patients])
    for _ in range(20):
        batch = next(batches)
        assert store.scan_index[batch].max() < 4
        anchor, positive, negative = liver[batch].reshape(3, 10)
        assert (anchor == positive).all()
        assert (anchor != negative).all()


def test_the_loss_compares_thirds_of_a_batch_with_the_configured_temperature(store):
    task = task_of(store)
    next(task.batches(store.indices(), 20)(np.random.default_rng(0)))
    torch.manual_seed(0)
    model = task.wrap(make_network(core.Network.preset("tiny"), store.channels, 1))
    images = store.batch(np.arange(9))
    anchor, positive, negative = model(images).chunk(3)
    assert anchor.shape == (3, 256)
    # A batch of 3 triplets, but τ stays 1/20.
    expected = polycl(anchor, positive, negative, 1 / 20)
    torch.testing.assert_close(task.loss(model, images, None), expected)


def test_the_encoder_of_a_pretraining_by_scan_is_transferred(patients, tmp_path):
    scans = [scan for scan, _ in patients]
    events = list(
        iter_pretrain(
            scans,
            core.PolyCL(embedding=32),
            out=tmp_path / "pre",
            settings=settings(validate_every=8),
            device="cpu",
        )
    )
    figures = [event.metrics for event in events if isinstance(event, Validation)]
    assert {"loss", "spread", "similarity of positives"} <= set(figures[-1])
    run = core.Run.open(tmp_path / "pre")
    assert run.task() == core.PolyCL(embedding=32)
    names = set(load_weights(run.weights))
    assert {name.split(".")[0] for name in names} == {"encoder", "head"}
    labelled = [core.LabelledScan(scan, labels) for scan, labels in patients[:2]]
    tuned = core.finetune(
        labelled,
        init=run,
        out=tmp_path / "ft",
        settings=core.FinetuneSettings(training=core.Training(steps=2, batch_size=4)),
        device="cpu",
    )
    assert tuned.record["init"] == "pre"


@pytest.mark.slow
def test_by_organ_on_the_command_line(patients, tags, tmp_path):
    core.write_dataset(tmp_path / "data", 3, "MR", seed=0)
    names = sorted(path.name.split(".")[0] for path in (tmp_path / "data/images").iterdir())
    organ = {
        name: [
            int(i)
            for i in np.flatnonzero(
                (core.load_labels(tmp_path / f"data/labels/{name}.nii.gz").data == 1).any((1, 2))
            )
        ]
        for name in names
    }
    (tmp_path / "liver.json").write_text(json.dumps(organ))
    done = command_line.run(
        "pretrain", tmp_path / "data/images", "--task", "polycl", "--selection", "organ",
        "--organ-slices", tmp_path / "liver.json", "--out", tmp_path / "run", "--steps", 2,
        "--batch-size", 4, "--network", "tiny", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert core.Run.open(tmp_path / "run").task().organ_slices[names[0]] == tuple(organ[names[0]])


def test_one_scan_is_refused(patients, tmp_path):
    with pytest.raises(DataError, match="one scan"):
        core.pretrain([patients[0][0]], core.PolyCL(), out=tmp_path / "run", device="cpu")


def test_an_organ_on_every_slice_is_refused(store, patients):
    every = {scan.name: tuple(range(len(scan.data))) for scan, _ in patients}
    task = task_of(store, selection="organ", organ_slices=every)
    with pytest.raises(DataError, match="every slice"):
        task.batches(store.indices(), 4)


@pytest.mark.parametrize(
    ("tags", "reason"), [({"nobody": (1,)}, "nobody"), ({"phantom_mr_000": (999,)}, "slice 999")]
)
def test_tags_that_fit_no_slice_are_refused(store, tags, reason):
    with pytest.raises(DataError, match=reason):
        task_of(store, selection="organ", organ_slices=tags)


def test_selection_by_organ_needs_tags():
    from napari_sslseg.core.settings.pretext.registry import make_task

    with pytest.raises(ConfigError, match="organ_slices"):
        make_task("polycl", selection="organ")


def test_a_preview_needs_several_scans(patients):
    from napari_sslseg.core.pretext.pictures.preview import preview

    with pytest.raises(DataError, match="add a second scan"):
        preview(patients[0][0], task="polycl")


def test_the_preview_shows_the_triplets_of_a_batch(store):
    task = task_of(store)
    batch = next(task.batches(store.indices(), 2)(np.random.default_rng(0)))
    images = store.batch(batch)
    shown = task.preview(images, None)
    parts = (shown.original, shown.partner, shown.corrupted)
    for part, wanted in zip(parts, images.chunk(3), strict=True):
        np.testing.assert_array_equal(part, wanted.numpy())
