"""Scores against values computed by hand, and against an independent computation."""

import itertools
import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from napari_sslseg.core.common.errors import (
    ClassesError,
    DataError,
    GeometryError,
    ScanWarning,
    VolumeError,
)
from napari_sslseg.core.results.evaluate import evaluate, evaluate_folders, summarize
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labels import load_labels, read_segment_names
from napari_sslseg.core.scans.volume import Volume

SPACING = (3.0, 1.0, 0.5)


def cube(shape=(16, 16, 16), start=4, size=5, shift=(0, 0, 0), label=1):
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(start + s, start + s + size) for s in shift)] = label
    return labels


def volume(labels, affine=None, name="scan"):
    affine = np.diag([1.0, 1, 1, 1]) if affine is None else affine
    geometry = Geometry(affine, labels.shape)
    return Volume(geometry.to_display(labels), geometry, name=name, subject=f"subject-{name}")


@dataclass
class Prediction:
    labels: np.ndarray
    volume: Volume


def save(path, labels, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, np.eye(4) if affine is None else affine), path)
    return path


def test_a_folder_is_compared_with_evaluate_folders(tmp_path):
    save(tmp_path / "a.nii", cube())
    for both in ((tmp_path, cube()), (cube(), tmp_path), (tmp_path, tmp_path)):
        with pytest.raises(DataError, match="evaluate_folders"):
            evaluate(*both)


def test_a_folder_is_no_label_file(tmp_path):
    save(tmp_path / "a.nii", cube())
    for read in (load_labels, read_segment_names):
        with pytest.raises(VolumeError, match="label file"):
            read(tmp_path)


def test_a_class_that_nothing_is_scored_for_is_named():
    with pytest.warns(ScanWarning, match=r"class 7 .* are 1\."):
        assert evaluate(cube(), cube(), classes=[7]).classes[7].dice is None
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        evaluate(cube(), cube(), classes=[1, 7])
        evaluate(0 * cube(), 0 * cube(), classes=[7])


def test_names_without_any_in_common_are_no_spelling(tmp_path):
    for folder, name in (("p", "liver"), ("t", "Leber")):
        save(tmp_path / folder / "a.nii.gz", cube())
        (tmp_path / folder / "classes.json").write_text(json.dumps({"1": name}))
    with pytest.warns(ScanWarning) as caught:
        evaluate_folders(tmp_path / "p", tmp_path / "t")
    first = str(caught[0].message)
    assert first.startswith("Each class differs")
    assert '--class-map FILE, a JSON file such as {"Leber": "liver"}' in first
    assert not any("spelling" in str(item.message) for item in caught)
    mapped = evaluate_folders(tmp_path / "p", tmp_path / "t", class_map={"Leber": "liver"})
    assert mapped.classes[1].dice == 1


def one(prediction, truth, spacing=SPACING):
    return evaluate(prediction, truth, spacing=spacing).classes[1]


def hd95_by_distance_transform(a, b, spacing):
    def surface(mask):
        padded = np.pad(mask, 1)
        inside = padded.copy()
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            inside &= np.roll(padded, step, axis)
        return (padded & ~inside)[(slice(1, -1),) * mask.ndim]

    a, b = surface(a), surface(b)
    there = distance_transform_edt(~b, sampling=spacing)[a]
    back = distance_transform_edt(~a, sampling=spacing)[b]
    return max(np.percentile(there, 95), np.percentile(back, 95))


# --- values by hand


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_shifted_cubes(axis, steps):
    shift = np.eye(3, dtype=int)[axis] * steps
    score = one(cube(shift=shift), cube())
    assert score.dice == pytest.approx((5 - steps) / 5)
    # The far face, 25 of 98 surface voxels, is `steps` away from the other cube, and no voxel
    # is further away, so this is the 95th percentile.
    assert score.hd95_mm == pytest.approx(steps * SPACING[axis])


def test_single_voxels_use_every_spacing():
    a, b = np.zeros((2, 4, 5, 6), np.uint8)
    a[0, 0, 0] = b[3, 4, 5] = 1
    score = one(a, b)
    assert score.dice == 0
    assert score.hd95_mm == pytest.approx(np.sqrt(9**2 + 4**2 + 2.5**2))


def test_symmetric_distance_is_the_larger_of_two_directed_ones():
    small, large = np.zeros((2, 4, 4, 30), np.uint8)
    small[1, 1, 5] = 1
    large[1, 1, 5:25] = 1
    # From small to large: 0. From large to small: 0 … 19 steps, whose 95th percentile is 18.05.
    expected = 18.05 * 0.5
    assert one(small, large).hd95_mm == pytest.approx(expected)
    assert one(large, small).hd95_mm == pytest.approx(expected)


def test_percentile_ignores_a_few_stray_voxels():
    truth = cube((40, 40, 40), size=12)
    stray = truth.copy()
    stray[39, 39, 39] = 1
    score = one(stray, truth, (1, 1, 1))
    assert score.hd95_mm == 0
    assert score.dice == pytest.approx(2 * 12**3 / (2 * 12**3 + 1))


@pytest.mark.parametrize("seed", range(6))
def test_random_shapes_agree_with_distance_transforms(seed):
    rng = np.random.default_rng(seed)
    spacing = tuple(rng.uniform(0.4, 5, 3))
    shape = tuple(rng.integers(6, 20, 3))
    a, b = (rng.random((2, *shape)) < rng.uniform(0.01, 0.6)).astype(np.uint8)
    a[0, 0, 0] = b[-1, -1, -1] = 1
    score = one(a, b, spacing)
    assert score.hd95_mm == pytest.approx(hd95_by_distance_transform(a > 0, b > 0, spacing))
    assert score.dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    swapped = one(b, a, spacing)
    assert (swapped.dice, swapped.hd95_mm) == (score.dice, score.hd95_mm)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_scores_as_its_2d_image(axis):
    a, b = np.zeros((2, 20, 20), np.uint8)
    a[3:13, 3:13] = b[3:13, 3:17] = 1
    flat = one(a, b, (2.0, 0.5))
    # The interior of a one-slice mask is not surface, although it is at the end of the scan.
    assert flat.hd95_mm == pytest.approx(hd95_by_distance_transform(a > 0, b > 0, (2.0, 0.5)))
    spacing = np.insert([2.0, 0.5], axis, 7.0)
    slab = one(np.expand_dims(a, axis), np.expand_dims(b, axis), spacing)
    assert (slab.dice, slab.hd95_mm) == (flat.dice, flat.hd95_mm)


def test_a_volume_of_one_voxel_can_be_scored():
    assert one(np.ones((1, 1, 1), np.uint8), np.ones((1, 1, 1), np.uint8)).hd95_mm == 0


def test_millilitres():
    score = one(cube(size=4), cube(size=6), (2, 1, 0.5))
    assert (score.prediction_ml, score.truth_ml) == pytest.approx((0.064, 0.216))
    sheared = np.array([[1.0, 0.5, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    score = evaluate(volume(cube(), sheared), volume(cube(), sheared)).classes[1]
    assert score.truth_ml == pytest.approx(125 * 6 / 1000)  # the determinant, not the edge lengths


# --- classes


def test_class_ids_are_compared_as_equal_or_not():
    labels = cube(label=2) + cube(start=10, size=3, label=7)
    scores = evaluate(labels, labels, spacing=SPACING)
    assert list(scores.classes) == [2, 7]
    assert {s.dice for s in scores.classes.values()} == {1.0}
    assert {s.hd95_mm for s in scores.classes.values()} == {0.0}
    assert scores.mean_dice == 1.0


def test_a_wrong_class_on_the_right_place_scores_zero():
    scores = evaluate(cube(label=7), cube(label=2), spacing=SPACING)
    assert {c: s.dice for c, s in scores.classes.items()} == {2: 0.0, 7: 0.0}
    assert {s.hd95_mm for s in scores.classes.values()} == {None}


def test_dtype_of_the_labels_does_not_matter():
    for dtype in (bool, np.int16, np.uint64, np.float32):
        assert one(cube().astype(dtype), cube()).dice == 1.0


def test_large_masks_do_not_overflow():
    ones = np.ones((300, 20, 20), np.uint8)
    assert one(ones, ones).dice == 1.0


# --- empty masks


def test_absent_from_both_is_not_scored():
    scores = evaluate(cube(), cube(), classes=[1, 3], spacing=SPACING)
    assert (scores.classes[3].dice, scores.classes[3].hd95_mm) == (None, None)
    assert scores.mean_dice == 1.0
    total = summarize([scores])
    assert total.classes[3].n == total.classes[3].hd95_undefined == 0
    assert total.mean_dice == 1.0


@pytest.mark.parametrize("swap", [False, True])
def test_absent_from_one_is_zero_and_counted(swap):
    empty, full = np.zeros_like(cube()), cube()
    pair = (full, empty) if swap else (empty, full)
    scores = evaluate(*pair, spacing=SPACING)
    assert (scores.classes[1].dice, scores.classes[1].hd95_mm) == (0.0, None)
    assert scores.classes[1].hd95_undefined
    good = evaluate(cube(shift=(0, 0, 2)), full, spacing=SPACING)
    total = summarize([scores, good]).classes[1]
    assert total.dice == pytest.approx((0 + 3 / 5) / 2)
    assert total.hd95_mm == pytest.approx(1.0)
    assert (total.n, total.hd95_undefined) == (2, 1)


def test_nothing_scored_is_none_and_not_zero():
    empty = np.zeros((4, 4, 4), np.uint8)
    scores = evaluate(empty, empty, classes=[1], spacing=SPACING)
    assert scores.mean_dice is None
    total = summarize([scores])
    assert (total.mean_dice, total.classes[1].dice, total.classes[1].hd95_mm) == (None,) * 3
    assert summarize([]).mean_dice is None
    assert evaluate(empty, empty).mean_dice is None


def test_overall_mean_is_over_classes_of_means_over_volumes():
    two = cube(label=1) + cube(start=10, size=4, label=2)
    wrong = np.where(two == 2, 0, two)
    total = summarize([evaluate(cube(), cube()), evaluate(cube(), cube()), evaluate(wrong, two)])
    assert [v.mean_dice for v in total.volumes] == [1.0, 1.0, 0.5]
    assert total.mean_dice == 0.5  # class 1: 1, class 2: 0; not the mean over volumes, 0.83


# --- grids


def test_array_prediction_takes_the_spacing_of_the_truth():
    affine = np.diag([2.0, 3, 5, 1])
    truth = volume(cube(), affine, "case_1")
    moved = volume(cube(shift=(1, 0, 0)), affine)
    for prediction in (moved, moved.data, Prediction(moved.data, truth)):
        scores = evaluate(prediction, truth)
        assert scores.classes[1].hd95_mm == pytest.approx(2.0)
    assert (scores.name, scores.subject) == ("case_1", "subject-case_1")
    assert evaluate(truth, moved.data, spacing=(9, 9, 9)).classes[1].hd95_mm == pytest.approx(2.0)


def test_without_spacing_only_dice():
    scores = evaluate(cube(shift=(0, 0, 1)), cube())
    assert scores.classes[1].dice == pytest.approx(0.8)
    assert (scores.classes[1].hd95_mm, scores.classes[1].truth_ml) == (None, None)
    assert not scores.classes[1].hd95_undefined


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, -1), (1, 1, float("nan"))])
def test_impossible_spacing(spacing):
    with pytest.raises(GeometryError, match="spacing"):
        evaluate(cube(), cube(), spacing=spacing)


def test_other_grids_are_refused():
    with pytest.raises(GeometryError, match="shape"):
        evaluate(cube(), cube((16, 16, 17)))
    shifted = np.eye(4)
    shifted[0, 3] = 1
    with pytest.raises(GeometryError, match="another grid"):
        evaluate(volume(cube(), shifted), volume(cube()))


def test_files_in_another_axis_order_are_the_same_labels(tmp_path):
    affine = np.diag([2.0, 3, 5, 1])
    image = nib.Nifti1Image(cube((9, 12, 15), start=2), affine)
    turned = image.as_reoriented(nib.orientations.axcodes2ornt("SLA"))
    nib.save(image, tmp_path / "a.nii")
    nib.save(turned, tmp_path / "b.nii.gz")
    score = evaluate(tmp_path / "a.nii", str(tmp_path / "b.nii.gz")).classes[1]
    assert (score.dice, score.hd95_mm) == (1.0, 0.0)


def test_values_that_are_not_labels(tmp_path):
    for bad in (np.full((4, 4, 4), 0.5), np.full((4, 4, 4), np.nan)):
        with pytest.raises(DataError, match="truth"):
            evaluate(np.zeros((4, 4, 4), np.uint8), bad)
    with pytest.raises(VolumeError, match=r"p\.nii"):
        evaluate(save(tmp_path / "p.nii", np.full((4, 4, 4), 0.5)), cube())


# --- results as JSON


def test_json_form():
    empty = np.zeros_like(cube())
    total = summarize(
        [evaluate(cube(), cube(), spacing=SPACING), evaluate(empty, cube(), spacing=SPACING)],
        unpredicted=["case_9"],
    )
    result = total.as_dict()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["classes"] == {
        "1": {"dice": 0.5, "hd95_mm": 0.0, "n": 2, "hd95_undefined": 1},
    }
    assert result["mean_dice"] == 0.5
    assert result["unpredicted"] == ["case_9"]
    assert "Dice 0" in result["empty_rule"]
    second = result["volumes"][1]
    assert (second["name"], second["mean_dice"]) == ("scan", 0.0)
    assert (second["classes"]["1"]["dice"], second["classes"]["1"]["hd95_mm"]) == (0.0, None)


# --- folders


def test_folders_pair_by_name(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "truth" / f"{name}.nii.gz", cube())
    save(tmp_path / "truth" / "c.nii.gz", cube(label=3))
    save(tmp_path / "predictions" / "a.nii", cube())
    save(tmp_path / "predictions" / "b.nii.gz", cube(shift=(1, 0, 0)) + cube(start=12, size=2) * 4)
    result = evaluate_folders(tmp_path / "predictions", tmp_path / "truth")
    assert [v.name for v in result.volumes] == ["a", "b"]
    assert result.unpredicted == ("c",)
    assert list(result.classes) == [1, 4]
    assert result.volumes[0].classes[4].dice is None
    assert result.classes[1].dice == pytest.approx(0.9)
    assert (result.classes[4].n, result.classes[4].hd95_undefined) == (1, 1)
    chosen = evaluate_folders(tmp_path / "predictions", tmp_path / "truth", classes=[1])
    assert list(chosen.classes) == [1]


def test_two_files_pair_whatever_their_names(tmp_path):
    prediction = save(tmp_path / "out.nii.gz", cube())
    result = evaluate_folders(prediction, save(tmp_path / "case_1.nii.gz", cube()))
    assert (result.mean_dice, result.unpredicted) == (1.0, ())


def test_one_prediction_against_a_folder(tmp_path):
    save(tmp_path / "truth" / "a.nii", cube())
    save(tmp_path / "truth" / "b.nii", cube())
    result = evaluate_folders(save(tmp_path / "a.nii", cube()), tmp_path / "truth")
    assert ([v.name for v in result.volumes], result.unpredicted) == (["a"], ("b",))


def test_predictions_without_a_truth_are_not_scored(tmp_path):
    for name in ("case_1", "case_2", "case_3"):
        save(tmp_path / "p" / f"{name}.nii", cube())
    save(tmp_path / "t" / "case_2.nii", cube())
    save(tmp_path / "t" / "case_7.nii", cube())
    with pytest.warns(ScanWarning, match=r"2 of 3 predictions .*case_1, case_3"):
        found = evaluate_folders(tmp_path / "p", tmp_path / "t")
    assert [volume.name for volume in found.volumes] == ["case_2"]
    assert found.unpredicted == ("case_7",)
    save(tmp_path / "t" / "case-01.nii", cube())
    with pytest.raises(DataError, match=r"case_1 has no truth.*case-01"):
        evaluate_folders(tmp_path / "p", tmp_path / "t")


def test_folder_errors(tmp_path):
    predictions, truth = tmp_path / "predictions", tmp_path / "truth"
    save(predictions / "case_1.nii", cube())
    save(truth / "case_2.nii", cube())
    with pytest.raises(DataError, match=r"truth.*case_1"):
        evaluate_folders(predictions, truth)
    with pytest.raises(DataError, match="nowhere"):
        evaluate_folders(predictions, tmp_path / "nowhere")
    save(predictions / "case_1.nii.gz", cube())
    with pytest.raises(DataError, match=r"case_1\.nii"):
        evaluate_folders(predictions, truth)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        evaluate_folders(tmp_path / "empty", truth)


def test_folder_names_the_scan_on_another_grid(tmp_path):
    save(tmp_path / "p" / "case_1.nii", cube())
    save(tmp_path / "t" / "case_1.nii", cube(), np.diag([2.0, 2, 2, 1]))
    with pytest.raises(GeometryError, match="case_1"):
        evaluate_folders(tmp_path / "p", tmp_path / "t")


# --- imports and real data


def test_import_is_light():
    code = (
        "import sys, napari_sslseg.core.results.evaluate; "
        "assert not {'torch', 'monai', 'scipy.spatial'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_real_hippocampus_against_itself(data_dir: Path, axis):
    path = sorted((data_dir / "msd_hippocampus" / "labels").glob("*.nii.gz"))[0]
    truth = load_labels(path)
    same = evaluate(path, path)
    assert set(same.classes) == {1, 2}
    assert {(s.dice, s.hd95_mm) for s in same.classes.values()} == {(1.0, 0.0)}
    moved = evaluate(Prediction(np.roll(truth.data, 1, axis), truth), truth)
    for score in moved.classes.values():
        assert 0.7 < score.dice < 1
        assert score.hd95_mm == pytest.approx(truth.spacing[axis])


def test_unknown_voxels_of_the_truth_are_left_out():
    truth, predicted = cube(), cube(shift=(1, 0, 0))
    whole = evaluate(predicted, truth, spacing=SPACING).classes[1]
    truth[9], predicted[4] = 255, 2  # The slice that was too far, and one that was missed.
    truth[4] = 255
    found = evaluate(predicted, truth, spacing=SPACING, ignore=255)
    score = found.classes[1]
    assert list(found.classes) == [1]
    assert (score.dice, score.hd95_mm) == (1, 0)
    assert score.truth_voxels == score.prediction_voxels == 4 * 5 * 5
    assert (whole.dice, whole.hd95_mm) == (0.8, SPACING[0])


def test_scribbles_are_scored_where_they_are():
    truth, predicted = np.zeros((4, 8), np.uint8), np.zeros((4, 8), np.uint8)
    truth[0, :4], truth[2, :4] = 1, 7
    predicted[0, 1:6], predicted[2, 0], predicted[3] = 1, 1, 1
    score = evaluate(predicted, truth, ignore=0, background=7).classes
    assert list(score) == [1]
    # Of the strokes of class 1, 3 of 4 voxels; of those of the background, 1 is class 1.
    assert score[1].dice == 2 * 3 / (4 + 4)
    with pytest.raises(DataError, match="--background-value"):
        evaluate(predicted, truth, ignore=0)


def test_predictions_of_a_network_with_an_ignore_label_are_scored(tmp_path):
    truth = cube()
    truth[0] = 2
    for folder, labels in (("predicted", cube()), ("truth", truth)):
        write(tmp_path / folder / "a.nii", labels)
        names = {"labels": {"background": 0, "liver": 1, "ignore": 2}}
        (tmp_path / folder / "dataset.json").write_text(json.dumps(names))
    folders = tmp_path / "predicted", tmp_path / "truth"
    with pytest.raises(ClassesError, match="--ignore-value 2"):
        evaluate_folders(*folders)
    found = evaluate_folders(*folders, ignore=2)
    assert {value: score.dice for value, score in found.classes.items()} == {1: 1}


def test_a_class_that_is_not_labelled_is_not_scored():
    truth, predicted = cube(), cube()
    predicted[12:15, 12:15, 12:15] = 2
    found = evaluate(predicted, truth, labelled_classes=(1,))
    assert found.classes[2].dice is None
    assert not found.classes[2].hd95_undefined
    assert found.mean_dice == 1
    with pytest.raises(DataError, match="class 1 occurs"):
        evaluate(predicted, truth, labelled_classes=(2,))
    json.dumps(found.as_dict(), allow_nan=False)


def test_folders_with_unknown_values_and_labelled_classes(tmp_path):
    for name, extra in (("a", 0), ("b", 2)):
        truth, predicted = cube(), cube()
        predicted[12:15, 12:15, 12:15] = 2
        truth[12:15, 12:15, 12:15] = extra
        truth[0] = 255
        write(tmp_path / "truth" / f"{name}.nii", truth)
        write(tmp_path / "predicted" / f"{name}.nii", predicted)
    folders = tmp_path / "predicted", tmp_path / "truth"
    with pytest.raises(DataError, match="--ignore-value 255"):
        evaluate_folders(*folders)
    with pytest.raises(DataError, match="--ignore-value 255"):
        evaluate_folders(*folders, ignore=254)
    assert 255 in evaluate_folders(*folders, classes=(1, 2, 255)).classes
    assert evaluate_folders(*folders, ignore=255).classes[2].dice == 0.5
    found = evaluate_folders(*folders, ignore=255, labelled_classes={"a": (1,)})
    assert (found.classes[2].dice, found.classes[2].n) == (1, 1)
    assert found.mean_dice == 1
    with pytest.raises(DataError, match="names zebra"):
        evaluate_folders(*folders, ignore=255, labelled_classes={"zebra": (1,)})


def write(path, labels):
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(labels, np.diag([1.0, 1, 1, 1])), path)


class TestSparseTruth:
    """The truth has labels on two of eight slices, and the prediction on all."""

    @staticmethod
    def arrays():
        predicted = np.zeros((8, 6, 6), np.uint8)
        predicted[:, 1:4, 1:4] = 1
        truth = np.zeros_like(predicted)
        truth[[2, 5], 1:4, 1:4] = 1
        return predicted, truth

    def test_slices_that_are_not_annotated_are_left_out(self):
        predicted, truth = self.arrays()
        assert evaluate(predicted, truth).classes[1].dice == pytest.approx(2 * 18 / (72 + 18))
        for annotated in ("labelled", (2, 5)):
            score = evaluate(predicted, truth, annotated=annotated).classes[1]
            assert score.dice == 1
            assert score.prediction_voxels == score.truth_voxels == 18
        # An annotated slice may be empty.
        score = evaluate(predicted, truth, annotated=(2, 3)).classes[1]
        assert score.dice == pytest.approx(2 * 9 / (18 + 9))

    def test_a_slice_that_does_not_exist_is_refused(self):
        with pytest.raises(DataError, match="0 to 7"):
            evaluate(*self.arrays(), annotated=(8,))

    def test_folders_are_warned_about_unless_it_is_said(self, tmp_path):
        for folder, values in zip(("p", "t"), self.arrays(), strict=True):
            (tmp_path / folder).mkdir()
            image = nib.Nifti1Image(np.moveaxis(values, 0, 2), np.eye(4))
            nib.save(image, tmp_path / folder / "a.nii.gz")
        with pytest.warns(ScanWarning, match="--annotated labelled"):
            scores = evaluate_folders(tmp_path / "p", tmp_path / "t")
        assert scores.volumes[0].classes[1].dice == pytest.approx(0.4)
        for said, expected in (("all", 0.4), ("labelled", 1.0)):
            with warnings.catch_warnings():
                warnings.simplefilter("error", ScanWarning)
                scores = evaluate_folders(tmp_path / "p", tmp_path / "t", annotated=said)
            assert scores.volumes[0].classes[1].dice == pytest.approx(expected)


@pytest.mark.parametrize(
    ("names", "warns"),
    [
        (("case_01", "case_01"), ""),
        (("case_01", "case_02"), "another one"),
        (("P01_ED", "P01_ES"), "different phases"),
    ],
)
def test_a_truth_whose_name_is_of_another_scan_is_doubted(tmp_path, names, warns):
    for folder, name in zip(("predictions", "truth"), names, strict=True):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / f"{name}.nii.gz", cube())
    files = [next((tmp_path / folder).iterdir()) for folder in ("predictions", "truth")]
    for score in (evaluate, evaluate_folders):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            score(*files)
        said = " ".join(str(one.message) for one in caught if one.category is ScanWarning)
        assert (warns in said) if warns else not said


def test_a_truth_of_another_phase_is_named_and_not_taken(tmp_path):
    for folder, names in (("predictions", ("P01_ED", "P02_ED")), ("truth", ("P01_ES", "P02_ED"))):
        (tmp_path / folder).mkdir()
        for name in names:
            save(tmp_path / folder / f"{name}.nii.gz", cube())
    with pytest.warns(ScanWarning, match="P01_ES there is of the same patient as P01_ED"):
        found = evaluate_folders(tmp_path / "predictions", tmp_path / "truth")
    assert [volume.name for volume in found.volumes] == ["P02_ED"]
