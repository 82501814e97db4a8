"""Training on labels that leave voxels or classes unknown, from the labels to the scores."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from napari_sslseg import core
from napari_sslseg.core.common.events import Step, Validation
from napari_sslseg.core.common.sizes import UNKNOWN
from napari_sslseg.core.samples.slices import SliceStore
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.segmentation.pseudo_labels import PseudoLabels
from napari_sslseg.core.segmentation.supervised import ValidationPart, dice_validation
from napari_sslseg.core.segmentation.unlabelled import unlabelled_samples
from napari_sslseg.core.training.weight_average import AveragedNetwork

SHAPE = (6, 32, 32)
GEOMETRY = Geometry(
    np.array([[0, 0, -1.0, 0], [0, -1, 0, 0], [-4.0, 0, 0, 0], [0, 0, 0, 1]]), SHAPE
)

pytestmark = pytest.mark.usefixtures("one_thread")


def two_boxes(seed):
    """A noisy scan with a bright box (class 1) and a dark box (class 2), and its labels."""
    rng = np.random.default_rng(seed)
    data, labels = rng.normal(100, 10, SHAPE), np.zeros(SHAPE, np.uint8)
    for value, contrast, left in ((1, 80, 1), (2, -80, 17)):
        row, column = rng.integers(1, 22), left + rng.integers(0, 5)
        box = (slice(1, 5), slice(row, row + 9), slice(column, column + 9))
        data[box] += contrast
        labels[box] = value
    name = f"case{seed}"
    scan = Volume(data.astype(np.float32), GEOMETRY, "MR", name, name)
    return scan, labels


def item(scan, labels, **meaning):
    return core.LabelledScan(scan, Volume(labels, scan.geometry, name=scan.name), **meaning)


def settings(steps=60, **values):
    return core.FinetuneSettings(
        preprocessing=core.Preprocessing(),
        network=core.Network.preset("tiny"),
        training=core.Training(steps=steps, batch_size=8, learning_rate=1e-2, seed=1),
        **values,
    )


def trained(labelled, out, **values):
    given = {"settings": settings(), "device": "cpu", "threads": 1} | values
    return core.finetune(labelled, out=out, **given)


def dice_of(run):
    """Dice of each class on two scans that the run has not seen."""
    segmenter = core.load_segmenter(run, "cpu")
    scores = []
    for seed in (100, 101):
        scan, truth = two_boxes(seed)
        scores.append(core.evaluate(core.predict(segmenter, scan), truth, classes=(1, 2)))
    return [np.mean([score.classes[value].dice for score in scores]) for value in (1, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dice-ce", "bce-to-dice"])
def test_a_wrong_region_that_is_unknown_does_no_harm(tmp_path, loss):
    wrong, unknown = [], []
    for seed in range(4):
        scan, labels = two_boxes(seed)
        # The bright box is missing in the labels of the upper slices, and class 2 is around it.
        wrong_labels = labels.copy()
        wrong_labels[:3, :, :16] = 2
        wrong.append(item(scan, wrong_labels))
        labels[:3, :, :16] = 255
        unknown.append(item(scan, labels, ignore=255))
    asked = settings(120, loss=loss)
    good = dice_of(trained(unknown, tmp_path / "unknown", settings=asked))
    bad = dice_of(trained(wrong, tmp_path / "wrong", settings=asked))
    assert min(good) > 0.8
    assert min(bad) < 0.6


@pytest.mark.parametrize(
    ("loss", "compared"),
    [
        ("dice-ce", False),
        pytest.param("dice-ce", True, marks=pytest.mark.slow),
        pytest.param("dice-multilabel", True, marks=pytest.mark.slow),
    ],
)
def test_classes_that_only_some_scans_have_labelled_are_all_learnt(tmp_path, loss, compared):
    said, silent = [], []
    for seed in range(8):
        scan, labels = two_boxes(seed)
        kept = 2 if seed % 4 == 0 else 1  # Class 2 is labelled in two scans, class 1 in six.
        labels[labels != kept] = 0
        said.append(item(scan, labels, labelled_classes=(kept,)))
        silent.append(item(scan, labels))
    asked = settings(120, loss=loss)
    good = dice_of(trained(said, tmp_path / "said", settings=asked))
    assert min(good) > 0.9
    if compared:
        bad = dice_of(trained(silent, tmp_path / "silent", settings=asked))
        assert min(bad) < min(good) - 0.15


def test_scribbles_suffice_to_learn_the_classes(tmp_path):
    scribbled = []
    for seed in range(4):
        scan, labels = two_boxes(seed)
        strokes = np.zeros_like(labels)
        strokes[:, ::7] = labels[:, ::7]
        lines = np.zeros(SHAPE, bool)
        lines[:, ::7] = lines[:, :, ::11] = True
        strokes[lines & (labels == 0)] = 9
        scribbled.append(item(scan, strokes, ignore=0, background=9))
    run = trained(scribbled, tmp_path / "run", settings=settings(steps=100))
    assert run.record["classes"] == [1, 2]
    assert min(dice_of(run)) > 0.8


class Says(nn.Module):
    """A network that sees class 1 where the image is bright, and class 2 where it is dark."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images):
        bright = images * self.weight
        return 9 * torch.cat([torch.full_like(bright, 1.5), bright, -bright], dim=1)


def test_the_validation_leaves_out_what_is_unknown():
    scan, labels = two_boxes(0)
    whole = item(scan, labels)
    # In another scan the labels of class 1 are wrong where they are unknown, and class 2 is not
    # labelled.
    other, partly = two_boxes(1)
    partly[partly == 2] = 0
    partly[:, :, :5] = 255
    partial = item(other, partly, ignore=255, labelled_classes=(1,))
    asked = settings(classes=(1, 2))

    def dice(*items):
        store = SliceStore.build(items, core.Preprocessing(), classes=(1, 2))
        every = np.flatnonzero(store.annotated)
        return dice_validation([ValidationPart(store, every)], asked, torch.device("cpu"))(Says())

    alone, both = dice(whole), dice(whole, partial)
    assert both["dice_2"] == alone["dice_2"]
    only = dice(partial)
    assert set(only) == {"dice", "dice_1"}
    # As a script would count it: voxels that are known, of both scans.
    store = SliceStore.build([whole, partial], core.Preprocessing(), classes=(1, 2))
    predicted = Says()(store.batch(np.arange(len(store)))).argmax(1).numpy()
    known = store.labels != UNKNOWN
    ours, theirs = (predicted == 1) & known, store.labels == 1
    expected = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
    assert both["dice_1"] == pytest.approx(expected)


def test_pseudo_labels_replace_what_is_unknown_in_labelled_slices():
    scan, labels = two_boxes(0)
    labels[labels == 2] = 0
    labels[2, :, :14] = 255
    store = SliceStore.build(
        [item(scan, labels, ignore=255, labelled_classes=(1,))],
        core.Preprocessing(),
        classes=(1, 2),
    )
    network = Says()
    teacher = AveragedNetwork(network, network, 0.5, (1,))
    teacher.update()
    asked = settings(
        average_decay=0.5, self_training=core.SelfTraining(threshold=0.9, least_part=0)
    )
    found = PseudoLabels(store, teacher, asked, torch.device("cpu"))(np.arange(6)).numpy()
    probabilities = Says()(store.batch(np.arange(6))).softmax(1).detach().numpy()
    says = np.where(probabilities.max(1) >= 0.9, probabilities.argmax(1), 3)
    own = store.labels
    np.testing.assert_array_equal(found[own == UNKNOWN], says[own == UNKNOWN])
    np.testing.assert_array_equal(found[own == 1], 1)
    # Background may be class 2, which is not labelled here; class 1 is known not to be there.
    background = own == 0
    expected = np.where(says == 1, 0, says)
    np.testing.assert_array_equal(found[background], expected[background])
    assert {0, 2, 3} <= set(np.unique(found[background]))
    # Labelled slices of which something is unknown are used without labels as well.
    np.testing.assert_array_equal(unlabelled_samples(store, (), 1.0), np.arange(6))


@pytest.mark.slow
def test_self_training_on_partly_labelled_scans_alone(tmp_path):
    items = []
    for seed in range(4):
        scan, labels = two_boxes(seed)
        labels[labels == 2 - seed % 2] = 0
        items.append(item(scan, labels, labelled_classes=(1 + seed % 2,)))
    asked = settings(100, average_decay=0.9, self_training=core.SelfTraining(begin=0.5))
    run = trained(items, tmp_path / "run", settings=asked)
    assert run.record["slices"] == {"training": 24, "validation": 0, "unlabelled": 24}
    assert min(dice_of(run)) > 0.85


def test_a_resumed_training_has_the_same_meaning_of_labels(tmp_path):
    items, plain = [], []
    for seed in range(3):
        scan, labels = two_boxes(seed)
        labels[labels == 2] = 2 if seed else 0
        labels[0] = labels[1, :5] = 255
        items.append(item(scan, labels, ignore=255, labelled_classes=None if seed else (1,)))
        plain.append(item(scan, labels))
    asked = settings(steps=8)
    whole = trained(items, tmp_path / "whole", settings=asked)
    stop, given = core.StopFlag(), {"device": "cpu", "threads": 1}
    for event in core.iter_finetune(
        items, out=tmp_path / "part", settings=asked, stop=stop, **given
    ):
        if isinstance(event, Step) and event.step == 4:
            stop.set()
    resumed = core.finetune(plain, out=tmp_path / "part", resume=True, **given)
    assert resumed.record["status"] == "finished"
    assert resumed.record["data"] == whole.record["data"]
    before, after = load_file(whole.weights), load_file(resumed.weights)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_class_without_labels_in_the_validation_has_no_dice_there(tmp_path):
    items = []
    for seed in range(3):
        scan, labels = two_boxes(seed)
        hide = seed == 2
        labels[labels == 2] = 0 if hide else 2
        items.append(item(scan, labels, labelled_classes=(1,) if hide else None))
    events = core.iter_finetune(
        items[:2], validation=items[2:], out=tmp_path, settings=settings(steps=2), device="cpu"
    )
    found = [event.metrics for event in events if isinstance(event, Validation)]
    assert found
    assert all(set(values) == {"dice", "dice_1"} for values in found)


def test_classes_are_said_with_the_scans_and_patients_that_show_them(tmp_path):
    items = []
    for seed in range(3):
        scan, labels = two_boxes(seed)
        labels[labels == 2] = 2 if seed == 0 else 0
        items.append(item(scan, labels, annotated="all"))
    events = core.iter_finetune(
        items, out=tmp_path / "run", settings=settings(1), device="cpu", threads=1
    )
    texts = [event.text for event in events if isinstance(event, core.Message)]
    (said,) = [text for text in texts if text.startswith("Labels of 3 scans")]
    assert "value 1 in 3 of 3;" in said
    assert "value 2 in 1 of 3 (1 of 3 patients)" in said
