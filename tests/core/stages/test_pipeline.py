"""Pretraining, fine-tuning and prediction together, through the public interface."""

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.runs.weights.checkpoints import load_weights
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.volume import Volume

TINY = core.Network.preset("tiny")


pytestmark = pytest.mark.usefixtures("one_thread")


def bright_box(seed, orientation="RAS", shape=(20, 44, 36), modality="MR", oblique=True):
    """A noisy scan with a bright box at a random position, in any orientation, and its labels."""
    rng = np.random.default_rng(seed)
    ornt = nib.orientations.axcodes2ornt(orientation)
    affine = np.zeros((4, 4))
    for axis, (world, flip) in enumerate(ornt):
        affine[int(world), axis] = flip * (1.5, 1.0, 1.2)[axis]
    if oblique:
        turn = np.deg2rad(12)
        rotation = np.eye(4)
        rotation[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        affine[3, 3] = 1
        affine = rotation @ affine
    affine[:3, 3], affine[3, 3] = rng.normal(0, 50, 3), 1
    data = rng.normal(100, 20, shape)
    labels = np.zeros(shape, np.uint8)
    box = tuple(slice(s := int(rng.integers(2, n - 12)), s + 9) for n in shape)
    data[box] += 200
    labels[box] = 7
    if modality == "CT":
        data = data - 1000 * (rng.random(shape) < 0.05)
    geometry = Geometry(affine, shape)
    name = f"case{seed}"
    data = data.astype(np.float32)
    scan = Volume(geometry.to_display(data), geometry, modality, name, name)
    return scan, Volume(geometry.to_display(labels), geometry, name=name, subject=name)


def settings(plane="axial", steps=150, **options):
    return core.FinetuneSettings(
        preprocessing=core.Preprocessing(plane=plane, **options),
        network=TINY,
        training=core.Training(steps=steps, batch_size=8, learning_rate=5e-3, seed=1),
    )


def labelled(*seeds, annotated=None, **options):
    return [core.LabelledScan(*bright_box(seed, **options), annotated) for seed in seeds]


@pytest.mark.parametrize(
    ("plane", "orientation", "options"),
    [
        pytest.param("axial", "LPS", {}, marks=pytest.mark.slow),
        pytest.param("coronal", "PIR", {"spacing": "isotropic"}, marks=pytest.mark.slow),
        ("sagittal", "SAL", {"spacing": 0.9}),
        pytest.param("axial", "RAS", {"fit": "resize", "size": (64, 48)}, marks=pytest.mark.slow),
    ],
)
def test_a_structure_is_segmented_on_a_new_scan_of_another_orientation(
    tmp_path, plane, orientation, options
):
    run = core.finetune(labelled(1, 2, 3), out=tmp_path, settings=settings(plane, **options))
    scan, truth = bright_box(9, orientation)
    prediction = core.predict(run, scan)
    assert core.evaluate(prediction, truth).classes[7].dice > 0.85
    assert set(np.unique(prediction.labels)) == {0, 7}
    assert prediction.probabilities.shape == (2, *scan.data.shape)
    np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-4)
    assert 0 <= prediction.uncertainty.min() <= prediction.uncertainty.max() <= 1
    # The centre of the prediction, in coordinates of the patient, is that of the box.
    path = core.save_labels(prediction, tmp_path / "prediction.nii.gz")
    saved = nib.load(path)
    np.testing.assert_array_equal(
        saved.affine.astype(np.float32), scan.geometry.affine.astype("f4")
    )
    found = nib.affines.apply_affine(saved.affine, np.argwhere(np.asarray(saved.dataobj) == 7))
    source = scan.geometry.to_source(truth.data)
    there = nib.affines.apply_affine(scan.geometry.affine, np.argwhere(source == 7))
    assert np.abs(np.median(found, axis=0) - np.median(there, axis=0)).max() < 1.5


def test_labels_of_slices_that_are_not_annotated_are_ignored(tmp_path):
    weights = []
    for number, noise in enumerate((0, 7)):
        scan, truth = bright_box(4)
        slices = tuple(np.flatnonzero(truth.data.any(axis=(1, 2)))[2:5].tolist())
        data = truth.data.copy()
        others = np.setdiff1d(np.arange(len(data)), slices)
        data[others] = noise
        item = core.LabelledScan(scan, Volume(data, truth.geometry), annotated=slices)
        run = core.finetune([item], out=tmp_path / str(number), settings=settings(steps=5))
        assert run.record["slices"]["training"] == 3
        weights.append(load_weights(run.weights))
    for name, tensor in weights[0].items():
        assert tensor.equal(weights[1][name]), name


def test_the_same_seed_gives_the_same_prediction(tmp_path):
    results = []
    for number in range(2):
        out = tmp_path / str(number)
        pretrained = core.pretrain(
            [bright_box(seed)[0] for seed in range(6)],
            core.ContextRestoration(patch_size=8),
            out=out / "pre",
            settings=core.PretrainSettings(
                network=TINY, training=core.Training(steps=6, batch_size=4, seed=3)
            ),
        )
        training = core.Training(steps=6, batch_size=4, seed=3)
        run = core.finetune(
            labelled(1, 2),
            init=pretrained,
            out=out / "ft",
            settings=core.FinetuneSettings(training=training),
            validation=labelled(5),
        )
        results.append([load_weights(pretrained.weights), load_weights(run.weights)])
    for one, two in zip(*results, strict=True):
        assert all(tensor.equal(two[name]) for name, tensor in one.items())


def test_pretraining_lowers_the_loss_on_other_subjects(tmp_path):
    scans = [bright_box(seed)[0] for seed in range(8)]
    training = core.Training(steps=60, batch_size=8, learning_rate=3e-3, validate_every=10)
    run = core.pretrain(
        scans,
        core.ContextRestoration(patch_size=8),
        out=tmp_path,
        settings=core.PretrainSettings(network=TINY, training=training),
    )
    losses = [row["validation_loss"] for row in run.metrics() if "validation_loss" in row]
    assert len(losses) == 6
    assert losses[-1] < 0.7 * losses[0]
    assert run.record["slices"]["validation"] > 0


def test_ct_with_three_windows(tmp_path):
    kind = {"modality": "CT"}
    pretrained = core.pretrain(
        [bright_box(seed, **kind)[0] for seed in range(3)],
        out=tmp_path / "pre",
        settings=core.PretrainSettings(network=TINY, training=core.Training(steps=3, batch_size=4)),
    )
    assert len(pretrained.record["settings"]["preprocessing"]["windows"]) == 3
    training = core.Training(steps=150, batch_size=8, learning_rate=5e-3)
    run = core.finetune(
        labelled(1, 2, **kind),
        init=pretrained,
        out=tmp_path / "ft",
        settings=core.FinetuneSettings(training=training),
    )
    scan, truth = bright_box(9, **kind)
    assert core.evaluate(core.predict(run, scan), truth).classes[7].dice > 0.7


def test_a_scan_larger_than_any_in_the_training_is_predicted_whole(tmp_path):
    run = core.finetune(labelled(1, 2), out=tmp_path, settings=settings())
    scan, truth = bright_box(3, shape=(60, 90, 70))
    prediction = core.predict(run, scan)
    assert prediction.labels.shape == scan.data.shape
    assert core.evaluate(prediction, truth).classes[7].dice > 0.5


def test_a_subject_in_training_and_validation_is_refused(tmp_path):
    with pytest.raises(core.SslsegError, match="case1 is in both"):
        core.finetune(labelled(1, 2), validation=labelled(1), out=tmp_path)


def test_settings_that_contradict_the_pretraining_are_refused(tmp_path):
    pretrained = core.pretrain(
        [bright_box(1)[0]],
        core.ContextRestoration(patch_size=8),
        out=tmp_path / "pre",
        settings=core.PretrainSettings(network=TINY, training=core.Training(steps=1, batch_size=2)),
    )
    other = core.FinetuneSettings(network=core.Network.preset("small"))
    with pytest.raises(core.SslsegError, match="network settings differ"):
        core.finetune(labelled(1), init=pretrained, out=tmp_path / "ft", settings=other)


def test_the_validation_is_of_whole_slices_like_the_prediction(tmp_path):
    """Also if the training crops its slices, and if the held-out scans differ in size."""
    small = settings(steps=20, size=(16, 16))
    held_out = [
        core.LabelledScan(*bright_box(8)),
        core.LabelledScan(*bright_box(9, shape=(60, 50, 16))),
    ]
    events = []
    for event in core.iter_finetune(
        labelled(1, 2), out=tmp_path / "run", settings=small, validation=held_out
    ):
        events.append(event)
    best = [e.metrics["dice"] for e in events if isinstance(e, core.Validation) and e.improved][-1]
    pairs = [
        (core.predict(tmp_path / "run", item.scan).labels == 7, item.labels.data == 7)
        for item in held_out
    ]
    both = sum((a & b).sum() for a, b in pairs)
    total = sum(a.sum() + b.sum() for a, b in pairs)
    assert 0 < best == pytest.approx(2 * both / total, abs=1e-4)

    # A run that was stopped half-way ends with the same scores.
    stop = core.StopFlag()
    for event in core.iter_finetune(
        labelled(1, 2), out=tmp_path / "parts", settings=small, validation=held_out, stop=stop
    ):
        if isinstance(event, core.Step) and event.step == 11:
            stop.set()
    resumed = core.finetune(
        labelled(1, 2), out=tmp_path / "parts", validation=held_out, resume=True
    )
    assert resumed.metrics() == core.Run.open(tmp_path / "run").metrics()
