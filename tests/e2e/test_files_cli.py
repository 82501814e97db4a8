"""DICOM and other files on the command line."""

import json

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from command_line import refused, run
from dicom_files import ramp, write_series
from napari_sslseg import core


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """CT series of two patients, one phantom each, and labels of the first."""
    folder = tmp_path_factory.mktemp("exports")
    for number in range(2):
        scan, labels = core.make_patient(number, "CT")

        def edit(ds, index, number=number):
            ds.PatientID, ds.PatientName = f"MRN-{number}", f"Quux^Patient{number}"

        # The axes of a scanner: slices to superior, rows to posterior, columns to left.
        write_series(
            folder / f"scans/{number}",
            (scan.data[::-1] + 1024).astype(np.int16),
            spacing=scan.spacing[1:],
            distance=scan.spacing[0],
            edit=edit,
            name="I{:05d}",
        )
        exported = core.load_volume(folder / f"scans/{number}")
        np.testing.assert_array_equal(exported.data, scan.data)
        core.save_labels(labels.data, folder / f"labels/{exported.name}.nii.gz", like=exported)
    return folder


def test_series_lists_usable_and_unusable_series(data_dir, exports):
    done = run("series", exports / "scans", data_dir / "dicom/ct_missing_dup_slices")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("_CT_3_Abdomen-2.5") == 2
    assert "ct_missing_dup_slices" in done.stderr
    for private in ("Quux", "MRN", "Traceback"):
        assert private not in done.stdout + done.stderr
    listed = json.loads(run("series", exports / "scans", "--json").stdout)
    assert len({item["subject"] for item in listed}) == 2
    assert all(item["problem"] is None and item["modality"] == "CT" for item in listed)


def test_labels_become_a_segmentation_and_come_back(exports, tmp_path):
    name = core.list_series(exports / "scans/0")[0].name
    (tmp_path / "classes.json").write_text('{"1": "liver", "2": "spleen"}')
    done = run(
        "export", exports / f"labels/{name}.nii.gz", "--like", exports / "scans/0",
        "--out", tmp_path / "seg.dcm", "--class-names", tmp_path / "classes.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ds = dcmread(tmp_path / "seg.dcm")
    assert [item.SegmentLabel for item in ds.SegmentSequence][:2] == ["liver", "spleen"]
    assert str(ds.PatientName) == "Quux^Patient0"
    done = run(
        "export", tmp_path / "seg.dcm", "--like", exports / "scans/0", "--out", tmp_path / "b.nii"
    )
    assert done.returncode == 0, done.stderr
    before, after = nib.load(exports / f"labels/{name}.nii.gz"), nib.load(tmp_path / "b.nii")
    np.testing.assert_array_equal(np.asarray(before.dataobj), np.asarray(after.dataobj))
    np.testing.assert_allclose(before.affine, after.affine, atol=1e-6)
    assert refused(
        run("export", tmp_path / "seg.dcm", "--like", exports / "scans/0", "--out",
            tmp_path / "b.nii"), "--overwrite",
    )  # fmt: skip


def test_a_segmentation_needs_a_dicom_scan(exports, tmp_path):
    scan = core.load_volumes(exports / "scans/0")[0]
    core.save_labels(np.zeros(scan.data.shape, np.uint8), tmp_path / "scan.nii.gz", like=scan)
    done = run(
        "export", tmp_path / "scan.nii.gz", "--like", tmp_path / "scan.nii.gz",
        "--out", tmp_path / "seg.dcm",
    )  # fmt: skip
    assert refused(done, ".nii.gz")
    assert not (tmp_path / "seg.dcm").exists()


def test_a_scan_is_not_exported_as_labels(tmp_path):
    (scan,) = core.write_dataset(tmp_path, 1, "MR", labels=False)
    target = tmp_path / "y.nii.gz"
    target.write_bytes(b"labels")
    done = run("export", scan, "--like", scan, "--out", target, "--overwrite")
    assert refused(done, "label file")
    assert target.read_bytes() == b"labels"


def test_from_dicom_to_a_predicted_segmentation(exports, tmp_path):
    """Pretrain on a tree of DICOM, fine-tune on its labels, predict DICOM SEG, score it."""
    common = ("--steps", 3, "--batch-size", 4, "--network", "tiny", "--device", "cpu")
    done = run("pretrain", exports / "scans", "--out", tmp_path / "pre", *common)
    assert done.returncode == 0, done.stderr
    done = run(
        "finetune", "--images", exports / "scans", "--labels", exports / "labels",
        "--init", tmp_path / "pre", "--out", tmp_path / "ft", *common[:4], "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run(
        "predict", tmp_path / "ft", exports / "scans", "--out", tmp_path / "pred",
        "--format", "dcm",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = sorted((tmp_path / "pred").glob("*.dcm"))
    assert len(written) == 2
    core.write_dataset(tmp_path / "more", 1, "CT")
    done = run(
        "predict", tmp_path / "ft", tmp_path / "more/images", "--out", tmp_path / "no",
        "--format", "dcm",
    )  # fmt: skip
    assert refused(done, "nii.gz")
    done = run("evaluate", tmp_path / "pred", exports / "labels", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"]
    # Only the segmentations contain data that identifies patients.
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".dcm":
            data = path.read_bytes()
            assert b"Quux" not in data, path
            assert b"MRN-" not in data, path
        assert "Quux" not in path.name


def test_unknown_formats_are_refused(exports, tmp_path):
    done = run("predict", tmp_path, exports / "scans", "--out", tmp_path, "--format", "png")
    assert refused(done, "png", "nii.gz")


@pytest.fixture
def flat(tmp_path):
    """Two series of one geometry in one folder, with truncated pixels; labels of the second."""

    def cut(ds, index):
        ds.PixelData = ds.PixelData[:40]

    for number in range(2):
        for folder, edit in (("whole", None), ("flat", cut)):
            write_series(
                tmp_path / folder,
                ramp(seed=number),
                series=f"1.2.826.{number}",
                frame_of_reference="1.2.827",
                name=f"{number}-{{:04d}}.dcm",
                edit=edit,
            )
    scan = next(
        core.load_volume(item)
        for item in core.list_series(tmp_path / "whole")
        if dcmread(item.files[0]).SeriesInstanceUID == "1.2.826.1"
    )
    labels = np.zeros(scan.data.shape, np.uint8)
    labels[2, 1:4, 2:5] = 1
    core.save_labels(labels, tmp_path / "labels.nii.gz", like=scan)
    return tmp_path, scan.name, labels


def series_of(path):
    return dcmread(path).ReferencedSeriesSequence[0].SeriesInstanceUID


def test_one_of_several_scans_is_chosen_by_name(flat):
    folder, name, _ = flat
    out = folder / "seg.dcm"
    export = ("export", folder / "labels.nii.gz", "--like", folder / "flat", "--out", out)
    names = [item.name for item in core.list_series(folder / "flat")]
    assert refused(run(*export), "--series", *names)
    assert refused(run(*export, "--series", "liver"), "liver", *names)
    assert refused(run(*export, "--series", name, "--algorithm", "magic"), "magic", "manual")
    assert not out.exists()
    # No image is decoded, or the truncated pixels would be an error.
    done = run(*export, "--series", name, "--algorithm", "semiautomatic", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"labels": str(out), "scan": name}
    assert series_of(out) == "1.2.826.1"
    (segment,) = dcmread(out).SegmentSequence
    assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"


def test_labels_that_refer_to_a_series_choose_it(flat):
    folder, name, labels = flat
    export = ("export", folder / "labels.nii.gz", "--like", folder / "flat")
    assert run(*export, "--series", name, "--out", folder / "seg.dcm").returncode == 0
    (segment,) = dcmread(folder / "seg.dcm").SegmentSequence
    assert segment.SegmentAlgorithmType == "MANUAL"
    for out in ("again.dcm", "back.nii.gz"):
        done = run(
            "export", folder / "seg.dcm", "--like", folder / "flat", "--out", folder / out, "--json"
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["scan"] == name
    assert series_of(folder / "again.dcm") == "1.2.826.1"
    np.testing.assert_array_equal(core.load_labels(folder / "back.nii.gz").data, labels)


def test_one_file_selects_its_series_and_is_never_replaced(flat):
    folder, _, _ = flat
    one = next((folder / "flat").glob("1-*"))
    export = ("export", folder / "labels.nii.gz", "--like", one, "--out")
    done = run(*export, folder / "seg.dcm")
    assert done.returncode == 0, done.stderr
    assert len(dcmread(folder / "seg.dcm").SourceImageSequence) == 6
    assert series_of(folder / "seg.dcm") == "1.2.826.1"
    before = one.read_bytes()
    assert refused(run(*export, one, "--overwrite"), one.name)
    assert one.read_bytes() == before


@pytest.fixture
def visits(tmp_path):
    """Two visits of each of three patients, whose names do not clearly say so."""
    shape = (16, 16, 4)
    for seed, name in enumerate(f"genius_0{p}0{v}" for p in (7, 8, 9) for v in range(2)):
        random = np.random.default_rng(seed)
        values = random.integers(0, 900, shape).astype(np.int16)
        for kind, data in (("images", values), ("labels", (values > 700).astype(np.uint8))):
            (tmp_path / kind).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / kind / f"{name}.nii.gz")
    return tmp_path


def split(folder):
    found = json.loads((folder / "run.json").read_text())["data"]
    return {
        role: {entry["subject"] for entry in found if entry["role"] == role}
        for role in ("training", "validation")
    }


def test_patients_are_listed_and_corrected_by_a_table(visits):
    done = run("series", visits / "images")
    assert done.stdout.count("genius_08 ") == 2
    assert "6 scans of 3 patients" in done.stderr
    assert "--patients" in done.stderr
    names = [path.name.removesuffix(".nii.gz") for path in sorted((visits / "images").iterdir())]
    table = visits / "patients.csv"
    table.write_text("scan,patient\n" + "".join(f"{name},x{name}\n" for name in names))
    done = run("series", visits / "images", "--patients", table)
    assert "6 scans of 6 patients" in done.stderr
    common = ("--images", visits / "images", "--labels", visits / "labels", "--steps", 1)
    common += ("--validation-share", 0.5, "--network", "tiny", "--size", 16, "--batch-size", 2)
    done = run("finetune", *common, "--out", visits / "guessed")
    assert done.returncode == 0, done.stderr
    assert "6 scans of 3 patients" in done.stderr
    parts = split(visits / "guessed")
    assert not parts["training"] & parts["validation"]
    assert len(parts["validation"]) == 2
    done = run("finetune", *common, "--out", visits / "named", "--patients", table)
    assert done.returncode == 0, done.stderr
    assert len(split(visits / "named")["validation"]) == 3
    done = run("pretrain", visits / "images", "--patients", table, "--steps", 1, "--network",
               "tiny", "--size", 16, "--batch-size", 2, "--out", visits / "pre")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "6 scans of 6 patients" in done.stderr
    assert refused(run("finetune", *common, "--out", visits / "named", "--resume",
                       "--patients", table), "leave out")  # fmt: skip
    scores = run("evaluate", visits / "labels", visits / "labels", "--patients", table, "--json")
    assert {v["subject"] for v in json.loads(scores.stdout)["volumes"]} == {f"x{n}" for n in names}
    scores = run("evaluate", visits / "labels", visits / "labels")
    assert "6 scans of 3 patients" in scores.stderr
    table.write_text("scan,patient\ngenius_0700,a\n")
    assert refused(run("finetune", *common, "--out", visits / "no", "--patients", table), "lacks 5")


def test_the_patients_of_phantoms_are_known(tmp_path):
    assert refused(run("demo", "--patients", tmp_path / "p.csv", "--out", tmp_path / "o"), "--data")
    table = tmp_path / "p.csv"
    table.write_text("scan,patient\nx,y\n")
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        values = np.zeros((8, 8, 4), np.int16)
        values[2:4] = 1
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / kind / "a.nii.gz")
    done = run("demo", "--data", tmp_path, "--patients", table, "--out", tmp_path / "o", "--fast")
    assert refused(done, "lacks")


def two_patients(folder, kind):
    """Two patients with scans of one grid, as DICOM or NIfTI; the names of the scans."""
    labels = np.zeros((6, 7, 9), np.uint8)
    labels[2, 1:4, 2:5] = 1
    for number in range(2):

        def edit(ds, index, number=number):
            ds.PatientID, ds.PatientName = f"MRN-{number}", f"Quux^Patient{number}"

        write_series(
            folder / f"dicom/{number}", ramp(seed=number), edit=edit, name=f"{number}-{{:04d}}.dcm"
        )
    names = {}
    for number in range(2):
        scan = core.load_volume(folder / f"dicom/{number}")
        names[number] = scan.name if kind == "dicom" else f"case_{number}"
        if kind == "nifti":
            image = nib.Nifti1Image(np.transpose(scan.data), np.eye(4))
            (folder / "nifti").mkdir(exist_ok=True)
            nib.save(image, folder / f"nifti/case_{number}.nii.gz")
            scan = core.load_volume(folder / f"nifti/case_{number}.nii.gz")
        core.save_labels(labels, folder / f"labels/{names[number]}_seg.nii.gz", like=scan)
    return names


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_labels_of_another_patient_are_refused_by_their_name(tmp_path, kind):
    names = two_patients(tmp_path, kind)
    other = tmp_path / kind / ("0" if kind == "dicom" else "case_0.nii.gz")
    own = tmp_path / kind / ("1" if kind == "dicom" else "case_1.nii.gz")
    export = ("export", tmp_path / f"labels/{names[1]}_seg.nii.gz", "--out", tmp_path / "o.nii.gz")
    assert refused(run(*export, "--like", other), names[0], names[1][:16], "--series")
    assert not (tmp_path / "o.nii.gz").exists()
    done = run(*export, "--like", other, "--series", names[0])
    assert done.returncode == 0, done.stderr
    assert "by its name" in done.stderr
    done = run(*export, "--like", own, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert "by its name" not in done.stderr


def test_dicom_labels_of_another_patient_are_refused_by_their_header(tmp_path):
    names = two_patients(tmp_path, "dicom")
    seg = tmp_path / "labels.dcm"
    done = run("export", tmp_path / f"labels/{names[1]}_seg.nii.gz", "--like", tmp_path / "dicom/1",
               "--out", seg)  # fmt: skip
    assert done.returncode == 0, done.stderr
    export = ("export", seg, "--out", tmp_path / "o.nii.gz", "--like")
    assert refused(run(*export, tmp_path / "dicom/0"), names[0], names[1][:16])
    assert run(*export, tmp_path / "dicom/1").returncode == 0


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_the_scan_that_labels_have_the_name_of_is_chosen_in_a_folder(tmp_path, kind):
    names = two_patients(tmp_path, kind)
    for number in range(2):
        done = run("export", tmp_path / f"labels/{names[number]}_seg.nii.gz", "--like",
                   tmp_path / kind, "--out", tmp_path / f"{number}.nrrd", "--json")  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["scan"] == names[number]
    # A name that says nothing.
    (tmp_path / "seg.nii.gz").write_bytes((tmp_path / f"labels/{names[0]}_seg.nii.gz").read_bytes())
    done = run("export", tmp_path / "seg.nii.gz", "--like", tmp_path / kind, "--out",
               tmp_path / "no.nrrd")  # fmt: skip
    assert refused(done, "--series", *names.values())
