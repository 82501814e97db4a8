"""The report of a demonstration: scores by patient, chance, and the slices that are drawn."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text

from napari_sslseg.core.demo.comparison import (
    arm_report,
    by_patient,
    caution,
    compare_arms,
    sign_flip,
)
from napari_sslseg.core.demo.overlays import PredictedScan, draw_slices, ranked, slice_dice
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.demo.plan import FULL, describe_length
from napari_sslseg.core.demo.report import draw_report
from napari_sslseg.core.results.scores import ClassScore, Evaluation, VolumeScores
from napari_sslseg.core.scans.labelled import LabelledScan


def scored(*scans):
    """An evaluation from (scan, patient, Dice of class 1, HD95)."""
    return Evaluation(
        tuple(
            VolumeScores(name, patient, {1: ClassScore(dice, distance, 9, 9)})
            for name, patient, dice, distance in scans
        )
    )


@pytest.fixture
def arms():
    """Two patients, one of them with two scans; two draws for each arm."""

    def trained(arm, seed, *scores):
        return arm_report(
            arm, [f"draw {seed}"], seed,
            scored(*((f"{who}{n}", who, *found) for n, (who, *found) in enumerate(scores))),
        )  # fmt: skip

    better = ("a", 0.6, 4.0), ("a", 0.6, None), ("b", 0.7, 3.0)
    return [
        trained("scratch", 0, ("a", 0.4, 8.0), ("a", 0.6, None), ("b", 0.9, 2.0)),
        trained("scratch", 1, ("a", 0.5, 6.0), ("a", 0.5, None), ("b", 0.7, 4.0)),
        trained("pretrained", 0, *better),
        trained("pretrained", 1, *better),
    ]


def test_scores_are_averaged_by_patient_over_scans_and_draws(arms):
    assert by_patient(arms, "scratch", "dice", "1") == pytest.approx({"a": 0.5, "b": 0.8})
    assert by_patient(arms, "scratch", "dice") == pytest.approx({"a": 0.5, "b": 0.8})
    assert by_patient(arms, "scratch", "hd95_mm", "1") == pytest.approx({"a": 7.0, "b": 3.0})


def test_one_sentence_compares_each_arm_patient_by_patient(arms):
    (sentence,) = compare_arms(arms)
    # +0.1 for one patient and −0.1 for the other.
    assert "0.000" in sentence
    assert "1 of 2 patients" in sentence
    assert "−0.100 to +0.100" in sentence
    assert "chance" in sentence
    assert "2 draws" in caution(2, 2)
    # Only trainings with the most labelled scans are compared.
    more = arm_report("scratch", ["x", "y"], 0, scored(("b", "b", 0.5, 2.0)))
    better = arm_report("pretrained", ["x", "y"], 0, scored(("b", "b", 0.75, 2.0)))
    (sentence,) = compare_arms([*arms, more, better])
    assert "+0.250" in sentence


@pytest.mark.parametrize(
    ("differences", "p"),
    [([0.1] * 6, 2 / 64), ([0.1, -0.1], 1.0), ([0.3, 0.1, 0.1], 2 / 8), ([0.3, -0.1, 0.1], 6 / 8)],
)
def test_the_sign_flip_test_equals_an_enumeration(differences, p):
    assert sign_flip(np.array(differences)) == pytest.approx(p)


def test_the_sign_flip_test_of_many_patients_is_drawn():
    assert sign_flip(np.full(20, 0.1)) < 0.01
    assert sign_flip(np.tile([0.1, -0.1], 10)) > 0.9


def test_dice_of_slices_is_that_of_the_classes_in_them():
    truth, predicted = np.zeros((3, 2, 2), int), np.zeros((3, 2, 2), int)
    truth[0] = [[1, 1], [2, 0]]
    predicted[0] = [[1, 0], [0, 0]]
    predicted[1, 0, 0] = 1
    # Class 1: 2·1/(2+1), class 2: 0; only class 1 in the second slice; nothing in the third.
    np.testing.assert_allclose(slice_dice(predicted, truth, [1, 2]), [1 / 3, 0, np.nan])


def shown(seed=0):
    """A phantom, predicted perfectly but for one slice."""
    scan, truth = make_patient(seed, "MR", (20, 64, 64), (9.0, 5.0, 5.0))
    item = LabelledScan(scan, truth)
    wrong = truth.data.copy()
    liver = np.flatnonzero((truth.data == 1).any((1, 2)))
    wrong[liver[2]] = 0
    found = PredictedScan(item)
    found.add("scratch", truth.data, 1.0)
    found.add("self-trained", wrong, 0.9 - seed / 10)
    return found, int(liver[2])


def test_the_worst_and_the_best_slice_of_a_scan_are_drawn():
    scan, missed = shown()
    worst, best = draw_slices(scan, "lowest", "self-trained", [1, 2, 3, 4, 5], "axial", "MR")
    assert worst.index == missed
    assert worst.dice["self-trained"] == 0
    assert worst.dice["scratch"] == 1
    assert worst.scan_dice == {"scratch": 1.0, "self-trained": 0.9}
    assert best.dice["self-trained"] == 1
    assert best.index != missed
    np.testing.assert_array_equal(worst.predictions["self-trained"], 0)
    np.testing.assert_array_equal(best.predictions["scratch"], best.truth)


def test_the_contrast_is_that_around_the_labels():
    scan, _ = shown()
    volume = scan.item.scan
    data = volume.data.astype(np.float32).copy()
    data[:, :3] = 20 * data.max()  # A bright wall far from the labels.
    bright = PredictedScan(replace(scan.item, scan=replace(volume, data=data)))
    bright.add("scratch", scan.item.labels.data, 1.0)
    worst, _ = draw_slices(bright, "", "scratch", [1, 2, 3, 4, 5], "axial", "MR")
    labelled = worst.image[worst.truth > 0]
    low, high = worst.limits
    assert high < data.max() / 5
    assert np.median((labelled - low) / (high - low)) > 0.15


def test_scans_are_ranked_by_one_arm():
    scans = [shown(seed)[0] for seed in range(3)]
    names = {rank.split()[0]: scan for rank, scan in ranked(scans, "self-trained")}
    assert names["lowest"] is scans[2]
    assert names["highest"] is scans[0]
    assert all("self-trained" in rank for rank, _ in ranked(scans, "self-trained"))


def test_the_picture_counts_patients_and_says_how_far_it_reaches(arms):
    scan, _ = shown()
    report = {
        "dataset": {
            "name": "heart", "volumes": 9, "patients": 5, "classes": [1],
            "class_names": {"1": "ventricle"},
        },
        "arms": arms,
        "test_volumes": ["a1", "a2", "b"],
        "test_patients": ["a", "b"],
        "comparison": compare_arms(arms),
        "length": describe_length(replace(FULL, pretrain_megapixels=1), (64, 64)),
        "caution": caution(2, 2),
    }  # fmt: skip
    slices = draw_slices(scan, "lowest Dice of self-trained", "self-trained", [1], "axial", "MR")
    curves = {"scratch, 1 labelled": [[3.0, 2.0, 1.0]]}
    figure = draw_report(report, [{"step": 1, "loss": 2.0}], curves, slices)
    words = [text.get_text() for text in figure.findobj(Text)]
    for wanted in (
        "9 scans of 5 patients", "3 scans of 2 patients", "images of the held-out", "HD95",
        "worst slice", "lowest Dice of self-trained", "ventricle", "draws",
        "short run", "Labelled scans",
    ):  # fmt: skip
        assert any(wanted in text for text in words), wanted
    assert "mean" not in words  # One class has no mean of its own.
    (dice,) = [axes for axes in figure.findobj(Axes) if "Dice, " in axes.get_title()]
    points = [line.get_ydata() for line in dice.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(np.sort(points), [[0.5, 0.8], [0.6, 0.7]])


def test_the_picture_names_the_labelled_scans_of_a_single_draw(arms):
    report = {
        "dataset": {"name": "a", "volumes": 9, "patients": 5, "classes": [1], "class_names": {}},
        "arms": arms[:1],
        "test_volumes": ["a1"],
        "test_patients": ["a"],
        "comparison": [],
        "length": describe_length(FULL, (64, 64)),
        "caution": caution(1, 1),
    }
    figure = draw_report(report, [], {}, [])
    words = " ".join(text.get_text() for text in figure.findobj(Text))
    assert all(name in words for name in arms[0]["labelled"])
    assert "short run" not in words
