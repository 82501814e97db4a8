"""Labels find their scans by the names of files and folders, in all common layouts."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from command_line import refused, run
from dicom_files import ramp, write_series
from napari_sslseg import core
from napari_sslseg.core.common.errors import DataError, ScanWarning, VolumeError
from napari_sslseg.core.scans.matching.label_names import structure_names
from napari_sslseg.core.scans.matching.pairing import best_match
from napari_sslseg.core.scans.matching.sequences import choose_sequence

SHAPE = (16, 16, 4)
SYSTEM = ("._{}", ".DS_Store", "Thumbs.db", "desktop.ini", "~${}", "__MACOSX/{}", ".hidden/{}")


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([-2.0, -2.0, 3.0, 1.0])), path)


def scan(path, seed=0, frames=None):
    shape = SHAPE if frames is None else (*SHAPE, frames)
    write(path, np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16))


def labels(path, start=2, value=1):
    values = np.zeros(SHAPE, np.uint8)
    values[start : start + 4, 2:8] = value
    write(path, values)


def paired(images, where, **options):
    """Names of the scans, with their label files relative to the folder."""
    pairs = core.pair_scans(images, where, **options)
    return {
        pair.name: [str(path.relative_to(where)) for path in pair.labels]
        if isinstance(pair.labels, tuple)
        else str(pair.labels.relative_to(where))
        for pair in pairs
    }


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("p{}", "p{}"),
        ("p{}", "p{}.seg"),
        ("p{}", "p{}_seg"),
        ("p{}", "P{}-label"),
        ("p{}", "labels_p{}"),
        ("case_{}_0000", "case_{}"),
        ("sub-{}_T1w", "sub-{}_T1w_dseg"),
        ("sub-{}_T1w", "sub-{}_space-T1w_mask"),
        ("volume-{}", "segmentation-volume-{}"),
        ("volume-{}", "segmentation-{}"),
        ("img00{}", "label00{}"),
        ("ct_train_{}_image", "ct_train_{}_label"),
        ("case_{}/imaging", "case_{}/segmentation"),
        ("B_{}_t1ce", "B_{}_seg"),
        ("p{0}/p{0}", "p{0}/p{0}_seg"),
        ("p{0}/ct", "p{0}/labels"),
        ("p{}", "p{}/seg"),
        ("p{}/t1", "p{}/whatever_seg"),
        ("sub-{0}/anat/sub-{0}_T1w", "sub-{0}/anat/sub-{0}_T1w_dseg"),
    ],
)
def test_names_of_one_scan_and_its_labels(tmp_path, image, label):
    for seed, number in enumerate(("01", "02", "11")):
        scan(tmp_path / "images" / f"{image.format(number)}.nii.gz", seed)
        labels(tmp_path / "labels" / f"{label.format(number)}.nii.gz", seed)
    found = paired(tmp_path / "images", tmp_path / "labels")
    assert list(found.values()) == [f"{label.format(n)}.nii.gz" for n in ("01", "02", "11")]
    assert len(found) == 3
    scans = core.pair_scans(tmp_path / "images", tmp_path / "labels")
    assert len({pair.scan.subject for pair in scans}) == 3


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("volume-{}", "segmentation-{}"),
        ("Case{}", "Case{}_segmentation"),
        ("P{0}/P{0}_frame01", "P{0}/P{0}_frame01_gt"),
        ("case_{}/imaging", "case_{}/segmentation"),
    ],
)
def test_scans_and_labels_in_one_folder(tmp_path, image, label):
    for seed, number in enumerate(("01", "02", "11")):
        scan(tmp_path / f"{image.format(number)}.nii.gz", seed)
        labels(tmp_path / f"{label.format(number)}.nii.gz", seed)
    found = paired(tmp_path, tmp_path)
    assert list(found.values()) == [f"{label.format(n)}.nii.gz" for n in ("01", "02", "11")]


@pytest.mark.parametrize("kind", ["seg", "rt"])
def test_dicom_labels_beside_their_series(data_dir, kind):
    folder = data_dir / "field_cases" / "01-names-ignored-classes-mixed" / kind
    pairs = core.pair_scans(folder, folder, match_classes=False)
    assert len({pair.scan.subject for pair in pairs}) == len(pairs) == 2
    for pair in pairs:
        assert pair.labels.parent == pair.scan.files[0].parent.parent


@pytest.mark.parametrize("name", SYSTEM)
def test_files_of_the_system_are_skipped(tmp_path, name):
    scan(tmp_path / "images" / "p0.nii.gz")
    labels(tmp_path / "labels" / "p0.nii.gz")
    for kind in ("images", "labels"):
        path = tmp_path / kind / name.format("p0.nii.gz")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\0\5\26\7" + b"\0" * 200)
    assert paired(tmp_path / "images", tmp_path / "labels") == {"p0": "p0.nii.gz"}
    # Also where the user selects all files.
    every = [path for path in (tmp_path / "images").rglob("*") if path.is_file()]
    every = [path for path in every if ".hidden" not in path.parts]
    assert [series.name for series in core.list_series(every)] == ["p0"]
    with core.Project.create(tmp_path / "project") as project:
        found = project.add_scans([tmp_path / "images", *every])
        assert found.added == ("p0",)


def test_the_exact_name_comes_first(tmp_path):
    scan(tmp_path / "images" / "p0.nii.gz")
    labels(tmp_path / "labels" / "p0.nii.gz")
    labels(tmp_path / "labels" / "p0_seg.nii.gz", 6)
    with pytest.warns(ScanWarning, match=r"p0_seg\.nii\.gz are left out"):
        assert paired(tmp_path / "images", tmp_path / "labels") == {"p0": "p0.nii.gz"}


@pytest.mark.parametrize(
    "names", [("p0_seg", "p0-label"), ("p0_rater1", "p0_rater2"), ("p0_v1", "p0_v2")]
)
def test_several_label_maps_of_a_scan_are_refused(tmp_path, names):
    scan(tmp_path / "images" / "p0.nii.gz")
    for name in names:
        labels(tmp_path / "labels" / f"{name}.nii.gz")
    with pytest.raises(DataError) as caught:
        paired(tmp_path / "images", tmp_path / "labels")
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize("label", ["p0_1", "p00", "p10_seg", "x_p0"])
def test_names_of_other_scans_do_not_fit(tmp_path, label):
    scan(tmp_path / "images" / "p0.nii.gz")
    labels(tmp_path / "labels" / f"{label}.nii.gz")
    with pytest.raises(DataError, match="p0"):
        paired(tmp_path / "images", tmp_path / "labels")


def organs(folder, patients, place="{}/segmentations/{}.nii.gz"):
    """One file per organ: the first starts at row 2, the second at 6, the third at 10."""
    every = ("kidney_left", "liver", "spleen")
    for seed, (patient, present) in enumerate(patients.items()):
        scan(folder / patient / "ct.nii.gz", seed)
        for organ in present:
            labels(folder / place.format(patient, organ), 2 + 4 * every.index(organ))


@pytest.mark.parametrize(
    "place", ["{}/segmentations/{}.nii.gz", "{}/{}.nii.gz", "{0}/seg/{0}_{1}.nii.gz"]
)
def test_one_file_per_organ_has_the_same_class_in_all_patients(tmp_path, place):
    patients = {
        "s0000": ("kidney_left", "liver", "spleen"),
        "s0001": ("liver", "spleen"),
        "s0002": ("spleen",),
    }
    organs(tmp_path, patients, place)
    pairs = core.pair_scans(tmp_path, tmp_path)
    assert [pair.name for pair in pairs] == ["s0000_ct", "s0001_ct", "s0002_ct"]
    rows = {"kidney_left": 2, "liver": 6, "spleen": 10}
    value_of = {}
    for pair, present in zip(pairs, patients.values(), strict=True):
        data = pair.load()[1]
        source = data.geometry.to_source(data.data)
        for organ in present:
            value = int(source[rows[organ], 3, 1])
            assert value_of.setdefault(organ, value) == value > 0
            assert pair.class_names[value].replace(" ", "_") == organ
        assert set(np.unique(source)) == {0, *(value_of[organ] for organ in present)}
    assert len(set(value_of.values())) == 3


def test_single_organs_that_differ_are_no_common_map(tmp_path):
    organs(tmp_path, {"s0": ("liver",), "s1": ("spleen",)})
    first, second = core.pair_scans(tmp_path, tmp_path)
    assert first.load()[1].data.max() != second.load()[1].data.max()


def test_overlaps_are_counted_and_whole_maps_are_refused(tmp_path):
    organs(tmp_path, {"s0": ("liver", "spleen")})
    labels(tmp_path / "s0/segmentations/pancreas.nii.gz", 8)
    (pair,) = core.pair_scans(tmp_path, tmp_path)
    with pytest.warns(ScanWarning, match="structures share 96 voxels"):
        pair.load()
    labels(tmp_path / "s0/segmentations/pancreas.nii.gz", 8, 2)
    several = np.zeros(SHAPE, np.uint8)
    several[12:14], several[14:] = 1, 2
    write(tmp_path / "s0/segmentations/pancreas.nii.gz", several)
    with pytest.raises(VolumeError, match=r"pancreas\.nii\.gz contains 2 structures"):
        pair.load()


def test_names_of_structures_leave_out_the_case(tmp_path):
    files = [tmp_path / f"case_07_{organ}_mask.nii.gz" for organ in ("liver", "vertebrae_L1")]
    assert structure_names(files) == ["liver", "vertebrae_l1"]


@pytest.mark.parametrize(
    ("image", "frames", "end"),
    [("b_{}_{}", None, "0001"), ("b_{}_{}", None, "T1w"), ("b_{0}/b_{0}_{1}", None, "flair")],
)
def test_of_several_scans_of_a_case_one_is_chosen(tmp_path, image, frames, end):
    other = "0000" if end.isdigit() else "T2w"
    for seed, number in enumerate(("01", "02")):
        for sequence in (end, other):
            scan(tmp_path / "images" / f"{image.format(number, sequence)}.nii.gz", seed)
        labels(tmp_path / "labels" / f"b_{number}.nii.gz")
    with pytest.raises(DataError, match=r"fit 2 scans .*--sequence"):
        paired(tmp_path / "images", tmp_path / "labels")
    found = paired(tmp_path / "images", tmp_path / "labels", sequence=end.lower())
    assert found == {f"b_{n}_{end}": f"b_{n}.nii.gz" for n in ("01", "02")}
    with pytest.raises(DataError, match="ends with pd"):
        paired(tmp_path / "images", tmp_path / "labels", sequence="pd")


def test_a_volume_of_four_axes_is_chosen(tmp_path):
    for number in range(2):
        scan(tmp_path / "images" / f"B_{number}.nii.gz", number, frames=3)
        labels(tmp_path / "labels" / f"B_{number}.nii.gz")
    with pytest.raises(DataError, match="3 volumes along its fourth axis"):
        paired(tmp_path / "images", tmp_path / "labels")
    found = paired(tmp_path / "images", tmp_path / "labels", sequence="002")
    assert list(found) == ["B_0_002", "B_1_002"]


def test_further_sequences_of_a_patient_are_left_out_aloud(tmp_path):
    for number in range(2):
        for sequence in ("T1w", "T2w"):
            scan(tmp_path / "images" / f"sub-{number}_{sequence}.nii.gz", number)
        labels(tmp_path / "labels" / f"sub-{number}_T1w_dseg.nii.gz")
    with pytest.warns(ScanWarning, match="2 further scans"):
        found = paired(tmp_path / "images", tmp_path / "labels")
    assert list(found) == ["sub-0_T1w", "sub-1_T1w"]
    # A patient without any labels is missing, not left out.
    scan(tmp_path / "images" / "sub-7_T1w.nii.gz", 7)
    with pytest.raises(DataError, match="sub-7_T1w"):
        paired(tmp_path / "images", tmp_path / "labels")


def test_scans_in_subfolders_are_listed_without_labels(tmp_path):
    organs(tmp_path, {"s0": ("liver",), "s1": ("liver", "spleen")})
    listed = core.list_series(tmp_path)
    assert [item.name for item in listed] == ["s0_ct", "s1_ct"]
    done = run("series", tmp_path)
    assert "3 volume files" in done.stderr
    assert "2 scans of 2 patients" in done.stderr
    with core.Project.create(tmp_path / "project") as project:
        found = project.add_scans(tmp_path)
        assert found.added == ("s0_ct", "s1_ct")
        assert sorted(owner for _, owner in found.labels) == ["s0_ct", "s1_ct", "s1_ct"]
        assert project.series("s1_ct").subject == "s1"


def test_one_file_per_organ_is_imported_into_a_project(tmp_path):
    organs(tmp_path, {"s0": ("liver", "spleen"), "s1": ("spleen",)})
    with core.Project.create(tmp_path / "project") as project:
        found = project.add_scans(tmp_path)
        for name in found.added:
            project.import_labels(name, [path for path, owner in found.labels if owner == name])
        value = {name: value for value, name in project.class_names.items()}
        assert set(value) == {"liver", "spleen"}
        assert set(np.unique(project.labels("s0_ct").data)) == {0, *value.values()}
        assert set(np.unique(project.labels("s1_ct").data)) == {0, value["spleen"]}
        files = [tmp_path / "s0/segmentations/liver.nii.gz"] * 2
        files[1] = tmp_path / "s0/segmentations/both.nii.gz"
        several = np.zeros(SHAPE, np.uint8)
        several[2:4], several[4:6] = 1, 2
        write(files[1], several)
        before = project.labels("s0_ct").data
        with pytest.raises(VolumeError, match=r"both\.nii\.gz contains 2 structures"):
            project.import_labels("s0_ct", files)
        np.testing.assert_array_equal(project.labels("s0_ct").data, before)


def test_truth_and_masks_follow_the_same_names(tmp_path):
    for number in range(2):
        labels(tmp_path / "predicted" / f"case_{number}_0000.nii.gz", 2 + number)
        labels(tmp_path / "truth" / f"case_{number}.nii.gz", 2 + number)
    scores = core.evaluate_folders(tmp_path / "predicted", tmp_path / "truth")
    assert [volume.name for volume in scores.volumes] == ["case_0_0000", "case_1_0000"]
    assert all(volume.mean_dice == 1 for volume in scores.volumes)
    assert not scores.unpredicted
    labels(tmp_path / "truth" / "case_1_seg.nii.gz")
    with pytest.raises(DataError, match="has 2 label files"):
        core.evaluate_folders(tmp_path / "predicted", tmp_path / "truth")


TRAINING = ("--steps", 1, "--network", "tiny", "--size", 32, "--batch-size", 2)
LAYOUTS = {
    "msd": ("msd/imagesTr", "msd/labelsTr", ()),
    "nn": ("nn/imagesTr", "nn/labelsTr", ()),
    "nn2": ("nn2/imagesTr", "nn2/labelsTr", ("--sequence", "0001")),
    "msd4": ("msd4/imagesTr", "msd4/labelsTr", ("--sequence", "002")),
    "bids": ("bids", "bids/derivatives/labels", ()),
    "flat": ("flat", "flat", ("--sequence", "t2")),
    "ts": ("ts", "ts", ()),
}


@pytest.mark.parametrize(("images", "where", "more"), LAYOUTS.values(), ids=LAYOUTS)
def test_real_layouts_train_or_say_what_to_do(data_dir, tmp_path, images, where, more):
    folder = data_dir / "field_cases" / "10-layouts"
    arguments = ("finetune", "--images", folder / images, "--labels", folder / where)
    arguments += ("--out", tmp_path / "run", *TRAINING)
    if more:
        assert refused(run(*arguments), "--sequence")
    done = run(*arguments, *more)
    assert done.returncode == 0, done.stderr
    assert "4 scans of 4 patients" in done.stderr
    done = run(*arguments[:7], *more[:2], "--resume")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("layout", LAYOUTS)
def test_real_layouts_are_added_to_a_project(data_dir, tmp_path, layout):
    folder = data_dir / "field_cases" / "10-layouts" / layout
    with core.Project.create(tmp_path / "project") as project:
        found = project.add_scans(folder)
        assert len({project.entry(name).subject for name in project.names}) == 4
        assert len(found.labels) == (8 if layout == "ts" else 4)
        clear = [owner for _, owner in found.labels if owner]
        # Labels of several channels or volumes belong to none of them alone.
        assert len(clear) == (0 if layout in ("nn2", "msd4", "flat") else len(found.labels))


@pytest.mark.parametrize("name", ["{} Maske", "Segmentierung_{}", "{}-Lebermaske"])
def test_german_words_for_labels_are_known(tmp_path, name):
    assert best_match(name.format("P1"), ["P1", "P12"]) == ["P1"]


def test_a_second_set_of_labels_is_not_left_out_in_silence(tmp_path):
    for number in range(2):
        scan(tmp_path / "images" / f"p{number}.nii.gz", number)
        labels(tmp_path / "labels" / f"p{number}.nii.gz", number)
        labels(tmp_path / "second" / f"p{number}.nii.gz", number)
    with pytest.warns(ScanWarning, match=r"Left out: 2 files.*second/p0\.nii\.gz"):
        found = paired(tmp_path / "images", tmp_path)
    assert found == {f"p{number}": f"labels/p{number}.nii.gz" for number in range(2)}


def test_the_sequence_of_a_training_is_chosen_for_unlabelled_scans_and_predictions(tmp_path):
    images, more_of, chosen = tmp_path / "images", tmp_path / "more", ("--sequence", "t2")
    for number, folder in enumerate((images, images, more_of)):
        for seed, end in enumerate(("t1", "t2")):
            scan(folder / f"p{number}_{end}.nii.gz", 2 * number + seed)
    for number in range(2):
        labels(tmp_path / "labels" / f"p{number}_seg.nii.gz", number)
    done = run(
        *("finetune", "--images", images, "--labels", tmp_path / "labels", "--unlabelled", more_of),
        *("--out", tmp_path / "run", "--steps", 1, "--network", "tiny", "--device", "cpu", *chosen),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert "p2_t2" in json.dumps(record)
    assert "_t1" not in json.dumps(record)
    assert record["sequence"] == "t2"
    assert "Modality: MR, guessed from the values of p0_t2" in done.stderr
    # Predictions use it, unless another one is given.
    everything = tmp_path / "everything"
    shutil.copytree(images, everything)
    for name in ("p4_t1", "p4_t2"):
        scan(everything / f"{name}.nii.gz", 7)
    for more, ending in (((), "t2"), (chosen, "t2"), (("--sequence", "T1"), "t1")):
        out = tmp_path / "out" / ending / str(len(more))
        done = run("predict", tmp_path / "run", everything, "--out", out, *more)
        assert done.returncode == 0, done.stderr
        found = {path.name for path in out.glob("*.nii.gz")}
        assert found == {f"p{number}_{ending}.nii.gz" for number in (0, 1, 4)}
        assert ("trained on scans whose names end with t2" in done.stderr) == (not more)
    # It does not concern patients with one scan each.
    scan(tmp_path / "single" / "p7.nii.gz")
    done = run("predict", tmp_path / "run", tmp_path / "single", "--out", tmp_path / "out/p7")
    assert done.returncode == 0, done.stderr
    # A resumed run has it in its record.
    done = run(
        *("finetune", "--images", images, "--labels", tmp_path / "labels", "--unlabelled", more_of),
        *("--out", tmp_path / "run", "--resume"),
    )
    assert done.returncode == 0, done.stderr

    # A prediction that fails leaves nothing that would be in the way of the next one.
    values = np.full(SHAPE, np.nan, np.float32)
    write(tmp_path / "broken" / "p8.nii.gz", values)
    out = tmp_path / "out" / "refused"
    assert refused(run("predict", tmp_path / "run", tmp_path / "broken", "--out", out), "p8")
    assert not out.exists() or not list(out.iterdir())


def test_the_rule_for_a_sequence_is_one(tmp_path):
    # Patients with one scan each, whose names say nothing of a sequence.
    for number in range(3):
        scan(tmp_path / "plain" / f"p{number}.nii.gz", number)
        scan(tmp_path / "other" / f"p{number}_T2w.nii.gz", number)
        scan(tmp_path / "both" / f"p{number}_T1w.nii.gz", number)
    with pytest.warns(ScanWarning, match="each patient has one scan"):
        assert len(choose_sequence(core.list_series(tmp_path / "plain"), "T1w")) == 3
    with pytest.raises(DataError, match="ends with T1w"):
        choose_sequence(core.list_series(tmp_path / "other"), "T1w")
    scan(tmp_path / "both" / "p7_T2w.nii.gz", 7)
    scan(tmp_path / "both" / "p0_T2w.nii.gz", 8)
    with pytest.warns(ScanWarning, match=r"left out: p7_T2w\."):
        found = choose_sequence(core.list_series(tmp_path / "both"), "t1w")
    assert [item.name for item in found] == ["p0_T1w", "p1_T1w", "p2_T1w"]


def test_the_sequence_of_dicom_series_is_their_description(tmp_path):
    for number in range(2):
        for series, text in enumerate(("t1_vibe", "t2_tse")):

            def edit(dataset, _, number=number, series=series, text=text):
                dataset.PatientID, dataset.PatientName = f"MRN-{number}", f"Name^{number}"
                dataset.SeriesDescription, dataset.SeriesNumber = text, 3 * number + series

            write_series(tmp_path / f"{number}" / text, ramp(seed=series), modality="MR", edit=edit)
    found = choose_sequence(core.list_series(tmp_path), "t2_tse")
    assert [item.files[0].parent.name for item in found] == ["t2_tse"] * 2
    labels(tmp_path / "labels" / f"{found[0].subject}_seg.nii.gz")
    with pytest.raises(DataError, match=r"--sequence t\d_\w+ "):
        core.pair_scans(tmp_path, tmp_path / "labels")
