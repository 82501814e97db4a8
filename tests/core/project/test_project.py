"""The project folder: scans, labels, done slices, classes, runs and recent projects."""

import dataclasses
import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.errors import (
    ClassInUseError,
    ConfigError,
    GeometryError,
    ProjectError,
    StorageError,
    VolumeError,
)
from napari_sslseg.core.common.events import Message, Progress, StopFlag
from napari_sslseg.core.project.names import free_name, is_name, safe_name
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.project.recent import recent_projects, remember_project
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labels import load_labels, save_labels
from napari_sslseg.core.scans.volume import Volume, load_volume, reason_of_modality

AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])


def write_scan(path, seed=0, shape=(12, 10, 6), affine=AFFINE):
    values = np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


@pytest.fixture
def project(tmp_path):
    """A project with three scans: two of one subject, and one of another."""
    for seed, name in enumerate(("a_ED", "a_ES", "b")):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", seed)
    with Project.create(tmp_path / "project") as project:
        found = project.add_scans(tmp_path / "scans")
        assert found.added == ("a_ED", "a_ES", "b")
        assert not found.problems
        yield project


def test_a_guessed_modality_is_not_said_to_be_in_a_header(project):
    series = project.series("b")
    assert series.modality == "MR"
    assert "header" not in reason_of_modality(series)
    assert "does not name it" in reason_of_modality(series)
    dicom = dataclasses.replace(series, files=(Path("b/0001.dcm"),))
    assert reason_of_modality(dicom) == "by the header of b"


def test_names_of_label_files_raise_no_doubt_about_patients(tmp_path):
    for number in (1, 2):
        name = f"abdomen_0{number}.nii.gz"
        write_scan(tmp_path / "abdomen" / name, number)
        block = np.zeros((12, 10, 6), np.uint8)
        block[3:7, 3:7, 2:4] = number
        target = tmp_path / "abdomen" / "truth" / name
        target.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(block, AFFINE), target)
    said = []
    with Project.create(tmp_path / "project") as project:
        scans = [tmp_path / "abdomen" / f"abdomen_0{number}.nii.gz" for number in (1, 2)]
        project.add_scans(scans)
        events = project.iter_add_scans([tmp_path / "abdomen" / "truth"])
        said = [event.text for event in events if isinstance(event, Message)]
        assert project.names == ("abdomen_01", "abdomen_02")
    assert not [text for text in said if "Several folders" in text]
    # Two scans of the same name do raise it.
    for folder in ("x", "y"):
        write_scan(tmp_path / "more" / folder / "knee.nii.gz", ord(folder))
        write_scan(tmp_path / "more" / folder / f"hip {folder}.nii.gz", 2 * ord(folder))
        write_scan(tmp_path / "more" / folder / f"foot {folder}.nii.gz", 3 * ord(folder))
    with Project.create(tmp_path / "other") as project:
        events = project.iter_add_scans([tmp_path / "more"])
        said = [event.text for event in events if isinstance(event, Message)]
    assert any("Several folders contain knee.nii.gz" in text for text in said)


def drawn(project, name, value=1):
    """Return labels with a block of one class on display slices 2 and 3."""
    labels = project.labels(name).data
    labels[2:4, 3:6, 2:5] = value
    return labels


def reopened(project):
    project.close()
    return Project.open(project.folder)


def read(project):
    return json.loads((project.folder / "project.json").read_text(encoding="utf-8"))


class TestFolder:
    def test_a_reopened_project_has_the_same_record_and_labels(self, project):
        project.add_class("Größe 7 µm", colour="#00FF00")
        project.save_labels("b", drawn(project, "b"))
        project.mark_done("b", [2, 3])
        project.set_role("a_ED", "test")
        project.remember("network", {"kind": "unet2d", "widths": [8, 16]})
        before = project.record
        with reopened(project) as again:
            assert again.record == before
            assert again.done("b") == (2, 3)
            assert again.class_names == {1: "Größe 7 µm"}
            assert again.classes[0].colour == "#00ff00"
            assert again.recall("network") == {"kind": "unet2d", "widths": [8, 16]}
            assert again.recall("nothing", 7) == 7
            assert (again.labels("b").data == drawn(again, "b")).all()
            assert not again.problems()

    def test_an_existing_project_is_not_created_again(self, project):
        project.close()
        before = (project.folder / "project.json").read_bytes()
        with pytest.raises(ProjectError, match="is a project already"):
            Project.create(project.folder)
        assert (project.folder / "project.json").read_bytes() == before

    def test_opening_a_folder_that_is_not_a_project_raises_and_writes_nothing(self, tmp_path):
        with pytest.raises(ProjectError, match="does not exist"):
            Project.open(tmp_path / "none")
        assert not (tmp_path / "none").exists()
        (tmp_path / "plain").mkdir()
        with pytest.raises(ProjectError, match=r"is not a project .*project\.json"):
            Project.open(tmp_path / "plain")
        assert not os.listdir(tmp_path / "plain")

    def test_only_short_json_values_are_remembered(self, project):
        for value in (object(), float("nan"), {"a": {1, 2}}, "x" * 2**21):
            with pytest.raises(ProjectError, match="'x'"):
                project.remember("x", value)
        deep = value = []
        for _ in range(31):
            value.append([])
            value = value[0]
        with pytest.raises(ProjectError, match="nested too deeply"):
            project.remember("x", deep)
        project.remember("y", 1)
        project.remember("y", None)
        assert project.recall("y") is None
        assert read(project)["screen"] == {}

    def test_a_closed_project_refuses_changes(self, project):
        project.close()
        with pytest.raises(ProjectError, match="is closed"):
            project.add_class("x")
        with pytest.raises(ProjectError, match="is closed"):
            project.save_labels("b", project.labels("b").data)

    def test_a_project_of_many_scans_opens_quickly(self, project):
        entry = project.entry("b")
        scans = tuple(
            entry.model_copy(
                update={"name": f"s{n}", "files": tuple(f"{i}.dcm" for i in range(99))}
            )
            for n in range(200)
        )
        project.change(lambda record: record.model_copy(update={"scans": scans}))
        project.close()
        start = time.perf_counter()
        with Project.open(project.folder) as again:
            seconds = time.perf_counter() - start
            assert len(again.names) == 200
        assert seconds < 2  # 0.15 s on an idle machine

    def test_no_change_is_lost_when_several_threads_write(self, project):
        def mark(start):
            for number in range(start, 6, 3):
                project.mark_done("a_ED", number)
                project.remember(f"seen {number}", True)

        project.save_labels("a_ED", drawn(project, "a_ED"))
        threads = [threading.Thread(target=mark, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert project.done("a_ED") == tuple(range(6))
        assert len(read(project)["screen"]) == 6

    def test_importing_the_project_loads_no_heavy_package(self):
        code = (
            "import sys\nfrom napari_sslseg.core.project.project import Project\n"
            "from napari_sslseg.core.project.recent import recent_projects\n"
            "heavy = {'torch', 'monai', 'napari', 'qtpy', 'SimpleITK', 'highdicom', 'lightning'}\n"
            "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestAdding:
    def test_unreadable_files_are_reported_with_the_reason(self, project, data_dir, tmp_path):
        events = list(
            project.iter_add_scans(
                [
                    data_dir / "invalid_or_broken",
                    data_dir / "dicom" / "ct_missing_dup_slices",
                    tmp_path / "nowhere.nii.gz",
                    data_dir / "msd_hippocampus" / "images" / "hippocampus_001.nii.gz",
                    data_dir / "dicom" / "mr_ge_papaya_20",
                ]
            )
        )
        found = events[-1].result
        assert "hippocampus_001" in found.added
        assert any("_MR_" in name for name in found.added)
        reasons = {path.name: reason for path, reason in found.problems}
        assert "zero bytes" in reasons["zero_byte_bids-examples_sub-01_T1w.nii.gz"]
        assert "does not exist" in reasons["nowhere.nii.gz"]
        assert "lacks slices" in reasons["ct_missing_dup_slices"]
        assert all("\n" not in reason and len(reason) < 500 for reason in reasons.values())
        assert any(isinstance(event, Progress) for event in events)
        assert project.problems() == {}

    def test_a_dicom_file_and_its_folder_tree_are_the_same_scan(self, project, data_dir, tmp_path):
        folder = shutil.copytree(
            data_dir / "dicom" / "mr_ge_papaya_20", tmp_path / "cd" / "x" / "y"
        )
        first = project.add_scans(sorted(folder.iterdir())[3])
        (name,) = first.added
        entry = project.entry(name)
        assert len(entry.files) == 20
        again = project.add_scans(tmp_path / "cd")
        assert not again.added
        assert f"the same scan as {name}" in again.problems[0][1]
        with reopened(project) as opened:
            scan = opened.load(name)
            assert scan.data.shape == entry.shape == load_volume(folder).data.shape
            assert scan.name == name
            labels = opened.labels(name).data
            labels[3, 20:40, 20:50] = 2
            path = opened.save_labels(name, labels)
            image = nib.load(path)
            np.testing.assert_allclose(image.affine, scan.geometry.affine, atol=1e-4)
            assert image.shape == scan.geometry.shape
            assert (opened.labels(name).data == labels).all()
            # Export to DICOM SEG and import, with the class names.
            opened.rename_class(2, "liver")
            seg = core.save_labels(
                labels,
                tmp_path / "seg.dcm",
                like=scan,
                classes=opened.class_names,
                overwrite=True,
            )
            opened.remove_class(2, erase=True)
            opened.import_labels(name, seg)
            assert opened.class_names == {2: "liver"}
            assert (opened.labels(name).data == labels).all()
            (sorted(folder.iterdir())[4]).unlink()
            with pytest.raises(ProjectError, match="is missing"):
                opened.load(name)

    def test_the_same_scan_is_not_added_twice(self, project, tmp_path):
        packed = tmp_path / "scans" / "b.nii.gz"
        plain = tmp_path / "more" / "other name.nii"
        plain.parent.mkdir()
        plain.write_bytes(gzip.decompress(packed.read_bytes()))
        found = project.add_scans([plain, packed, tmp_path / "scans"])
        assert not found.added
        assert [path.name for path, _ in found.problems].count("b.nii.gz") == 2
        assert all("the same scan as" in reason for _, reason in found.problems)

    def test_names_that_differ_only_in_case_get_a_number(self, project, tmp_path):
        write_scan(tmp_path / "x" / "B.nii.gz", 7)
        write_scan(tmp_path / "y" / "b.nii", 8)
        found = project.add_scans([tmp_path / "x", tmp_path / "y"])
        assert found.added == ("B_2", "b_3")
        scans = {scan.name: scan for scan in project.scans()}
        assert set(scans) == {"a_ED", "a_ES", "b", "B_2", "b_3"}
        assert load_volume(scans["B_2"]).name == "B_2"

    def test_each_frame_of_a_time_series_is_a_scan(self, project, tmp_path):
        values = np.random.default_rng(1).integers(0, 99, (8, 8, 4, 3)).astype(np.int16)
        nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "cine.nii.gz")
        found = project.add_scans(tmp_path / "cine.nii.gz")
        assert found.added == ("cine_000", "cine_001", "cine_002")
        with reopened(project) as again:
            for frame, name in enumerate(found.added):
                scan = again.load(name)
                np.testing.assert_array_equal(
                    scan.geometry.to_source(scan.data), values[..., frame]
                )
            assert {again.entry(name).subject for name in found.added} == {"cine"}
            again.save_labels("cine_001", drawn(again, "cine_001"))
            assert nib.load(again.labels_path("cine_001")).shape == (8, 8, 4)

    def test_adding_stops_between_two_scans(self, project, tmp_path):
        for seed in range(4):
            write_scan(tmp_path / "more" / f"n{seed}.nii.gz", 20 + seed)
        stop = StopFlag()
        for event in project.iter_add_scans(tmp_path / "more", stop=stop):
            last = event
            if isinstance(event, Progress) and event.stage == "scans read" and event.done == 1:
                stop.set()
        assert last.stopped
        assert last.result.added == ("n0", "n1")
        assert project.names[-2:] == ("n0", "n1")

    @pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
    def test_a_name_that_is_not_text_is_added_under_a_safe_name(self, project, tmp_path):
        source = write_scan(tmp_path / "more" / "x.nii.gz", 30)
        odd = Path(os.fsdecode(os.fsencode(source.parent) + b"/p1_\xff\xfe.nii.gz"))
        source.rename(odd)
        found = project.add_scans(odd.parent)
        assert not found.problems
        assert found.added == ("p1___",)
        with reopened(project) as again:
            assert again.load("p1___").path == odd

    def test_safe_and_free_file_names(self):
        assert safe_name("../../etc/passwd") == "_.._etc_passwd"
        assert safe_name("CON") == "_CON"
        assert safe_name("\x1b[2J . ") == "_[2J"
        assert safe_name("...") == "scan"
        assert len(safe_name("日" * 300).encode()) <= 200
        assert is_name("patient-fd6d7e8e_MR_2 (ä)")
        for name in ("", ".x", "a/b", "a\\b", "x\0", "x ", "nul.a", "x" * 101, "\u202ea"):
            assert not is_name(name)
        assert free_name("x" * 100, {"x" * 100}) == "x" * 98 + "_2"


class TestSubjects:
    def test_a_role_applies_to_all_scans_of_the_subject(self, project, tmp_path):
        assert project.set_role("a_ED", "test") == ("a_ED", "a_ES")
        assert project.set_role("a_ES", "test") == ()
        write_scan(tmp_path / "more" / "a_ADC.nii.gz", 40)
        events = list(project.iter_add_scans(tmp_path / "more"))
        assert project.entry("a_ADC").role == "test"
        assert any("a_ADC is for test" in e.text for e in events if isinstance(e, Message))
        assert [scan.name for scan in project.scans("train")] == ["b"]
        assert project.set_subject("b", "a") == "test"
        assert project.scans("train") == []
        assert project.set_subject("b", "c") == "test"
        assert project.set_role("b", "train") == ("b",)
        with pytest.raises(ProjectError, match="no role 'validation'"):
            project.set_role("b", "validation")

    def test_validation_scans_are_split_by_subject(self, project):
        for name in project.names:
            project.save_labels(name, drawn(project, name))
            project.mark_done(name, [2, 3])
        split = project.split_validation(0.5)
        sides = [
            {item.scan.subject for item in part} for part in (split.training, split.validation)
        ]
        assert sorted(map(len, sides)) == [1, 1]
        assert not sides[0] & sides[1]
        assert "slices of one patient" in split.note
        assert project.split_validation(0).validation == []
        with pytest.raises(ConfigError, match="share"):
            project.split_validation(0.9)
        project.set_role("b", "test")
        split = project.split_validation()
        assert [item.name for item in split.training] == ["a_ED", "a_ES"]
        assert split.validation == []
        assert "one patient" in split.note
        assert [item.name for item in project.labelled_scans("test")] == ["b"]


class TestFilesOfScans:
    def test_a_missing_scan_is_named_and_the_others_can_be_used(self, project, tmp_path):
        (tmp_path / "scans" / "b.nii.gz").unlink()
        with reopened(project) as again:
            assert list(again.problems()) == ["b"]
            for use in (again.load, again.series, again.labels):
                with pytest.raises(ProjectError, match=r"scan b is missing.*b\.nii\.gz"):
                    use("b")
            with pytest.raises(ProjectError, match="scan b is missing"):
                again.scans("train")
            assert [s.name for s in again.scans("train", usable_only=True)] == ["a_ED", "a_ES"]
            assert again.load("a_ED").name == "a_ED"

    def test_a_changed_scan_is_named(self, project, tmp_path):
        write_scan(tmp_path / "scans" / "b.nii.gz", 99)
        assert "b was changed since" in project.problem("b")
        assert "b was changed since" in project.problem("b")  # from memory
        with pytest.raises(ProjectError, match="changed since"):
            project.load("b")
        (tmp_path / "scans" / "b.nii.gz").write_bytes(b"hello")
        assert "can no longer be read" in project.problem("b")
        write_scan(tmp_path / "scans" / "b.nii.gz", 2)
        assert project.problem("b") is None

    def test_a_scan_with_a_new_modification_time_is_unchanged(self, project, tmp_path):
        before = project.entry("b").stamp
        os.utime(tmp_path / "scans" / "b.nii.gz", (1, 1))
        assert project.problems() == {}
        assert project.entry("b").stamp != before
        assert read(project)["scans"][2]["stamp"] == project.entry("b").stamp

    def test_a_change_of_the_image_file_of_a_pair_is_noticed(self, project, tmp_path):
        values = np.random.default_rng(5).integers(0, 99, (8, 8, 4)).astype(np.int16)
        image = nib.Nifti1Pair(values, AFFINE)
        nib.save(image, tmp_path / "pair.img")
        project.add_scans(tmp_path / "pair.hdr")
        nib.save(nib.Nifti1Pair(values + 1, AFFINE), tmp_path / "pair.img")
        assert "changed since" in project.problem("pair")

    def test_a_project_moves_with_its_scans(self, project, tmp_path):
        project.save_labels("b", drawn(project, "b"))
        assert read(project)["scans"][2]["path"] == "../scans/b.nii.gz"
        project.close()
        new = tmp_path / "elsewhere"
        new.mkdir()
        shutil.move(tmp_path / "scans", new / "scans")
        shutil.move(project.folder, new / "project")
        with Project.open(new / "project") as moved:
            assert moved.problems() == {}
            assert moved.series("b").path == new / "scans" / "b.nii.gz"
            assert moved.labels("b").data.any()

    def test_a_project_that_moves_without_its_scans_finds_them(self, project, tmp_path):
        project.close()
        (tmp_path / "deep" / "down").mkdir(parents=True)
        shutil.move(project.folder, tmp_path / "deep" / "down" / "project")
        with Project.open(tmp_path / "deep" / "down" / "project") as moved:
            assert moved.problems() == {}

    def test_a_scan_that_moved_can_be_relocated(self, project, tmp_path):
        old = tmp_path / "scans" / "b.nii.gz"
        new = tmp_path / "new" / "renamed.nii.gz"
        new.parent.mkdir()
        old.rename(new)
        with pytest.raises(ProjectError, match="is not the scan b"):
            project.relocate("b", tmp_path / "scans" / "a_ED.nii.gz")
        project.relocate("b", new)
        assert project.problems() == {}
        with reopened(project) as again:
            assert again.load("b").name == "b"

    def test_labels_of_a_removed_scan_are_kept_in_the_folder_aside(self, project):
        project.save_labels("b", drawn(project, "b"))
        project.mark_done("b", 2)
        before = project.labels_path("b").read_bytes()
        aside = project.remove_scan("b")
        assert aside.read_bytes() == before
        assert aside.parent == project.folder / "labels" / "aside"
        assert not (project.folder / "labels" / "b.nii.gz").exists()
        assert project.names == ("a_ED", "a_ES")
        with pytest.raises(ProjectError, match="no scan named b"):
            project.labels("b")
        project.add_scans(project.folder.parent / "scans")
        assert project.done("b") == ()
        assert not project.labels("b").data.any()
        assert project.import_labels("b", aside) == (2, 3)
        assert project.remove_scan("a_ED") is None
        assert project.remove_scan("b").name == "b_2.nii.gz"


class TestLabels:
    @pytest.mark.parametrize("code", ["RAS", "LPS", "PIR", "SLA"])
    def test_labels_of_oblique_scans_are_saved_and_read_exactly(self, project, tmp_path, code):
        rng = np.random.default_rng(len(code) + ord(code[0]))
        turn, _ = np.linalg.qr(np.eye(3) + 0.3 * rng.normal(size=(3, 3)))
        affine = np.eye(4)
        affine[:3, :3] = turn @ np.diag(rng.uniform(0.5, 4, 3))
        affine[:3, 3] = rng.uniform(-200, 200, 3)
        base = nib.orientations.ornt_transform(
            nib.io_orientation(affine), nib.orientations.axcodes2ornt(code)
        )
        shape = (9, 11, 7)
        affine = affine @ nib.orientations.inv_ornt_aff(base, shape)
        write_scan(tmp_path / "o" / f"{code}.nii.gz", 50, shape, affine)
        project.add_scans(tmp_path / "o")
        labels = rng.integers(0, 5, project.entry(code).shape).astype(np.uint8)
        path = project.save_labels(code, labels)
        scan, image = nib.load(tmp_path / "o" / f"{code}.nii.gz"), nib.load(path)
        assert np.array_equal(scan.affine, image.affine)
        assert image.shape == scan.shape
        assert image.get_data_dtype() == np.uint8
        geometry = Geometry(scan.affine, scan.shape)
        np.testing.assert_array_equal(np.asarray(image.dataobj), geometry.to_source(labels))
        with reopened(project) as again:
            np.testing.assert_array_equal(again.labels(code).data, labels)
            assert again.labels(code).data.flags.c_contiguous
            assert again.labels(code).geometry.matches(geometry)

    def test_labels_of_an_unlabelled_scan_are_zero(self, project):
        labels = project.labels("b")
        assert labels.data.dtype == np.uint8
        assert labels.data.shape == project.entry("b").shape == (6, 10, 12)
        assert not labels.data.any()
        assert not project.has_labels("b")
        labels.data[0] = 1  # a writable array

    def test_saving_labels_with_a_new_value_adds_a_class(self, project):
        project.add_class("class 7", value=1)
        project.save_labels("b", drawn(project, "b", 7))
        assert project.class_names == {1: "class 7", 7: "class 7'"}
        assert len({item.colour for item in project.classes}) == 2

    @pytest.mark.parametrize("value", [256, -1, 0.5, np.nan, 1000])
    def test_values_outside_0_to_254_are_refused(self, project, value):
        project.save_labels("b", drawn(project, "b"))
        before = project.labels_path("b").read_bytes()
        with pytest.raises(ProjectError, match="from 0 to 254"):
            project.save_labels("b", drawn(project, "b").astype(float) * value)
        assert project.labels_path("b").read_bytes() == before

    def test_labels_of_another_shape_are_refused(self, project):
        with pytest.raises(GeometryError, match=r" b .*2 × 2 × 2"):
            project.save_labels("b", np.zeros((2, 2, 2), np.uint8))

    def test_booleans_and_integral_floats_are_accepted(self, project):
        for kind in (bool, np.float32, np.int64):
            project.save_labels("b", drawn(project, "b").astype(kind))
            assert project.labels("b").data.sum() == 18

    @pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
    def test_labels_are_imported_from_each_format(self, project, tmp_path, suffix):
        labels = drawn(project, "b", 3)
        path = save_labels(labels, tmp_path / f"x{suffix}", like=project.load("b"))
        assert project.import_labels("b", path) == (2, 3)
        assert (project.labels("b").data == labels).all()
        assert project.class_names == {3: "class 3"}
        project.save_labels("b", labels * 2)
        assert project.import_labels("b", path, done="all") == tuple(range(6))
        assert project.import_labels("b", path, done="none") == ()
        assert project.import_labels("b", path, done=[1]) == (1,)
        # The labels before each import are in the folder aside.
        kept = sorted((project.folder / "labels" / "aside").iterdir())
        assert len(kept) == 3
        assert {int(load_labels(file).data.max()) for file in kept} == {3, 6}
        with pytest.raises(ProjectError, match="with labels or none"):
            project.import_labels("b", path, done="some")

    def test_labels_on_another_grid_are_refused(self, project, tmp_path):
        other = load_volume(write_scan(tmp_path / "o.nii.gz", 9, affine=np.diag([1.0, 1, 1, 1])))
        path = save_labels(drawn(project, "b"), tmp_path / "l.nii.gz", like=other)
        project.save_labels("b", drawn(project, "b"))
        with pytest.raises(GeometryError, match="another grid"):
            project.import_labels("b", path)
        with pytest.raises(VolumeError, match="does not exist"):
            project.import_labels("b", tmp_path / "none.nii.gz")
        assert not (project.folder / "labels" / "aside").exists()

    def test_labels_written_by_another_program_are_read(self, project):
        project.save_labels("b", drawn(project, "b"))
        path = project.labels_path("b")
        image = nib.load(path)
        values = np.asarray(image.dataobj).astype(np.float64) * 2
        nib.save(nib.Nifti1Image(values, image.affine), path)
        assert project.labels("b").data.max() == 2
        path.write_bytes(path.read_bytes()[:50])
        with pytest.raises(VolumeError, match=r"b\.nii\.gz"):
            project.labels("b")


class TestDone:
    def test_labels_written_by_another_program_are_kept_aside_when_saving(self, project):
        name = project.names[0]
        ours = project.labels(name).data
        ours[1, 2:4, 2:4] = 1
        path = project.save_labels(name, ours)
        assert not project.labels_changed(name)
        image = nib.load(path)
        theirs = np.asarray(image.dataobj).copy()
        theirs[0] = 2
        nib.save(nib.Nifti1Image(theirs, image.affine, image.header), path)
        written = path.read_bytes()
        assert project.labels_changed(name)
        project.save_labels(name, ours)
        (kept,) = (project.folder / "labels/aside").glob("*.nii.gz")
        assert kept.read_bytes() == written
        np.testing.assert_array_equal(project.labels(name).data, ours)
        # Labels of another program that were read are not reported as changed.
        path.write_bytes(written)
        project.labels(name)
        assert not project.labels_changed(name)

    def test_labels_of_an_earlier_session_are_kept_unless_they_were_read(self, project):
        path = project.save_labels("b", drawn(project, "b"))
        earlier, labels = path.read_bytes(), drawn(project, "b") * 2
        aside = project.folder / "labels/aside"
        with reopened(project) as again:
            again.labels("b")
            again.save_labels("b", labels // 2)
            assert not aside.exists()
        with Project.open(project.folder) as again:
            assert not again.labels_changed("b")
            again.save_labels("b", labels)
            again.save_labels("b", labels)
        (kept,) = aside.iterdir()
        assert kept.read_bytes() == earlier

    def test_an_empty_slice_can_be_done(self, project):
        assert project.mark_done("b", 4) == (4,)
        (item,) = project.labelled_scans()
        assert item.annotated == (4,)
        scan, labels = item.load()
        assert not labels.data.any()
        assert scan.name == "b"
        assert [scan.name for scan in project.unlabelled_scans()] == ["a_ED", "a_ES"]

    def test_slices_are_marked_and_unmarked(self, project):
        project.mark_done("b", [0, 2, 3, 4])
        assert read(project)["scans"][2]["done"] == "0, 2-4"
        assert project.unmark("b", [3, 5]) == (0, 2, 4)
        assert project.mark_done("b", np.flatnonzero([0, 1]), "axial") == (0, 1, 2, 4)
        assert project.done("b", "axial") == (0, 1, 2, 4)
        assert project.done("b", "sagittal") == ()
        for bad in (-1, 6):
            with pytest.raises(ProjectError, match="numbered 0 to 5"):
                project.mark_done("b", [0, bad])
        with pytest.raises(ProjectError, match=r"axial.*coronal"):
            project.mark_done("b", 0, "coronal")

    def test_the_plane_changes_only_if_done_slices_are_unmarked(self, project):
        project.set_plane("sagittal")
        assert project.mark_done("b", 11) == (11,)
        with pytest.raises(ProjectError, match=r"1 sagittal slices? of 1"):
            project.set_plane("axial")
        project.set_plane("sagittal")
        assert project.done("b") == (11,)
        project.set_plane("axial", unmark=True)
        assert project.done("b") == ()
        assert project.has_labels("b")
        with pytest.raises(ProjectError, match="axial, coronal or sagittal"):
            project.set_plane("oblique")

    def test_missing_labels_are_reported_and_do_not_count_as_background(self, project):
        project.save_labels("b", drawn(project, "b"))
        project.mark_done("b", 2)
        project.labels_path("b").unlink()
        assert "labels of b are missing" in project.problems()["b"]
        for use in (project.labelled_scans, lambda: project.labels("b")):
            with pytest.raises(ProjectError, match="labels of b are missing"):
                use()
        with pytest.raises(ProjectError, match="labels of b are missing"):
            project.mark_done("b", 4)
        assert not project.has_labels("b")
        assert project.done("b") == (2,)
        project.unmark("b", 2)
        assert project.problems() == {}


class TestClasses:
    def test_values_and_names_are_unique(self, project):
        assert project.add_class("liver").value == 1
        assert project.add_class("spleen", 5, "#ABCDEF").colour == "#abcdef"
        assert project.add_class("kidney").value == 2
        before = read(project)
        for make in (
            lambda: project.add_class("LIVER"),
            lambda: project.add_class("x", 5),
            lambda: project.add_class("x", 0),
            lambda: project.add_class("x", 255),
            lambda: project.add_class(" "),
            lambda: project.add_class("\x1b[2J"),
            lambda: project.add_class("x", colour="red"),
            lambda: project.rename_class(1, "Kidney"),
            lambda: project.rename_class(9, "x"),
            lambda: project.recolour_class(1, "#12"),
        ):
            with pytest.raises(ProjectError) as caught:
                make()
            assert "\n" not in str(caught.value)
        assert read(project) == before
        project.rename_class(1, "Liver")
        project.recolour_class(1, "#000000")
        assert (project.classes[0].name, project.classes[0].colour) == ("Liver", "#000000")

    def test_a_class_in_use_is_removed_only_with_erase(self, project, tmp_path):
        project.add_class("one")
        project.add_class("two")
        labels = drawn(project, "b")
        labels[5, 5, 5] = 2
        project.save_labels("b", labels)
        before = nib.load(project.labels_path("b"))
        with pytest.raises(ClassInUseError, match=r"class “one” .* 1 scan ") as refused:
            project.remove_class(1)
        assert (refused.value.name, refused.value.scans) == ("one", ("b",))
        (tmp_path / "scans" / "b.nii.gz").rename(tmp_path / "away.nii.gz")
        assert project.remove_class(1, erase=True) == ("b",)
        (tmp_path / "away.nii.gz").rename(tmp_path / "scans" / "b.nii.gz")
        assert project.class_names == {2: "two"}
        assert np.unique(project.labels("b").data).tolist() == [0, 2]
        assert np.array_equal(nib.load(project.labels_path("b")).affine, before.affine)
        (kept,) = (project.folder / "labels" / "aside").iterdir()
        assert (load_labels(kept).data == labels).all()
        assert project.remove_class(2, erase=True) == ("b",)
        assert project.classes == ()

    def test_no_class_gets_the_value_of_a_removed_class_of_another_name(self, project):
        for name in ("liver", "spleen"):
            project.add_class(name)
        project.save_labels("b", drawn(project, "b", 2))
        assert project.remove_class(2, erase=True) == ("b",)
        assert project.add_class("kidney").value == 3
        with reopened(project) as again:
            # The replaced labels mean what they did, and so do runs that learnt the class.
            (kept,) = (again.folder / "labels" / "aside").iterdir()
            again.import_labels("b", kept)
            assert again.class_names == {1: "liver", 2: "spleen", 3: "kidney"}
            again.remove_class(2, erase=True)
            assert again.add_class("Spleen").value == 2
            assert np.unique(again.labels("b").data).tolist() == [0]

    def test_a_class_that_is_renamed_gets_the_value_of_a_removed_one(self, project):
        for name in ("liver", "spleen"):
            project.add_class(name)
        project.save_labels("b", drawn(project, "b", 2))
        project.remove_class(2, erase=True)
        new = project.add_class("structure 2")
        assert new.value == 3
        assert project.rename_class(new.value, "spleen").value == 2
        assert project.class_names == {1: "liver", 2: "spleen"}
        # Not if it is drawn.
        project.remove_class(2)
        project.add_class("structure 2")
        project.save_labels("b", drawn(project, "b", 3))
        assert project.rename_class(3, "spleen").value == 3
        assert project.class_names == {1: "liver", 3: "spleen"}

    def test_a_new_class_gets_no_value_that_is_drawn(self, project):
        project.add_class("liver")
        record = read(project)
        project.add_class("tumour")
        project.save_labels("b", drawn(project, "b", 2))
        project.close()
        # As after an older record was restored.
        (project.folder / "project.json").write_text(json.dumps(record))
        with Project.open(project.folder) as again:
            assert again.add_class("cyst").value == 3
            (found,) = again.add_missing_classes(again.labels("b").data)
            assert (found.value, found.name) == (2, "class 2")
            assert again.add_missing_classes(again.labels("b").data) == ()

    def test_labels_that_nobody_saw_are_kept_when_others_are_saved(self, project):
        project.add_class("liver")
        project.save_labels("b", drawn(project, "b"))
        shown = project.labels("b").data
        theirs = shown.copy()
        theirs[0, 0, :3] = 1
        save_labels(theirs, project.labels_path("b"), like=project.load("b"), overwrite=True)
        project.labels("b", seen=False)  # As an export or a score reads them.
        shown[5, 5, 5] = 1
        project.save_labels("b", shown)
        (kept,) = (project.folder / "labels" / "aside").iterdir()
        np.testing.assert_array_equal(load_labels(kept).data, theirs)

    def test_a_scan_whose_labels_cannot_be_kept_is_not_removed(self, project):
        project.add_class("liver")
        noise = np.random.default_rng(0).integers(0, 2, project.labels("b").data.shape)
        project.save_labels("b", noise)
        project.mark_done("b", [1])
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = project.labels_path("b").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
        try:
            with pytest.raises(StorageError):
                project.remove_scan("b")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert project.done("b") == (1,)
        assert project.remove_scan("b").is_file()

    def test_a_class_is_erased_in_all_labels_or_in_none(self, project):
        project.add_class("liver")
        project.add_class("spleen")
        small, large = drawn(project, "a_ED"), project.labels("b").data
        rng = np.random.default_rng(0)
        large[:] = rng.integers(1, 3, large.shape)
        project.save_labels("a_ED", small)
        project.save_labels("b", large)
        sizes = [project.labels_path(name).stat().st_size for name in ("a_ED", "b")]
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        # Files can be as large as on a disk that is almost full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (sum(sizes) // 2, before[1]))
        try:
            with pytest.raises(StorageError):
                project.remove_class(1, erase=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert project.class_names == {1: "liver", 2: "spleen"}
        np.testing.assert_array_equal(project.labels("a_ED").data, small)
        np.testing.assert_array_equal(project.labels("b").data, large)
        assert not list((project.folder / "labels" / "aside").iterdir())


def test_a_project_pretrains_fine_tunes_and_predicts(tmp_path):
    core.write_dataset(tmp_path / "data", 3, "MR", seed=5)
    network = core.Network.preset("tiny")
    short = core.Training(steps=2, batch_size=2)
    with Project.create(tmp_path / "project") as project:
        project.add_scans(tmp_path / "data" / "images")
        for value, name in core.PHANTOM_CLASSES.items():
            project.add_class(name, value)
        *train, test = project.names
        project.set_role(test, "test")
        for name in project.names:
            project.import_labels(name, tmp_path / "data" / "labels" / f"{name}.nii.gz", "none")
            project.mark_done(name, range(8, 14))
        out = project.new_run_folder("pretrain")
        assert out.name == "pretrain-001"
        pre = core.pretrain(
            project.scans("train"),
            out=out,
            settings=core.PretrainSettings(network=network, training=short),
            device="cpu",
        )
        split = project.split_validation()
        assert len(split.validation) == 1
        run = core.finetune(
            split.training,
            validation=split.validation,
            init=pre,
            out=project.new_run_folder("finetune"),
            settings=core.FinetuneSettings(training=short),
            device="cpu",
        )
        assert project.new_run_folder("finetune").name == "finetune-002"
        summaries = project.runs()
        assert [summary.name for summary in summaries] == ["finetune-001", "pretrain-001"]
        assert [summary.status for summary in summaries] == ["finished", "finished"]
        record = json.loads((run.folder / "run.json").read_text())
        data = {entry["name"]: entry for entry in record["data"]}
        assert set(data) == set(train)
        for name in train:
            assert data[name]["content"] == project.entry(name).content
            assert data[name]["annotated"] == "8-13"
        prediction = core.predict(run, project.series(test))
        project.save_labels(test, prediction.labels)
        assert (project.labels(test).data == prediction.labels).all()
        with pytest.raises(ProjectError, match="no kind of run"):
            project.new_run_folder("../x")


class TestRecent:
    @pytest.fixture
    def projects(self, tmp_path):
        folders = [tmp_path / f"p{number:02d}" for number in range(12)]
        for folder in folders:
            Project.create(folder).close()
        return folders

    def test_the_latest_ten_existing_projects_are_listed(self, projects, tmp_path):
        file = tmp_path / "config" / "recent.json"
        assert recent_projects(file) == []
        for folder in [*projects, projects[3]]:
            remember_project(folder, file)
        expected = [projects[3], *projects[:3:-1], projects[2]][:10]
        assert recent_projects(file) == expected
        shutil.rmtree(projects[11])
        assert recent_projects(file) == [path for path in expected if path != projects[11]]

    @pytest.mark.parametrize(
        "text", ["", "{", "[" * 9999, '{"a": 1}', '[1, null, "relative", "\\u0000", ""]', "\xff"]
    )
    def test_a_damaged_list_is_empty(self, projects, tmp_path, text):
        file = tmp_path / "recent.json"
        file.write_text(text, encoding="latin-1")
        assert recent_projects(file) == []
        remember_project(projects[0], file)
        assert recent_projects(file) == [projects[0]]

    def test_the_list_is_in_the_configuration_folder_of_the_user(self, monkeypatch, tmp_path):
        monkeypatch.setattr("platformdirs.user_config_path", lambda *a, **k: tmp_path / "c")
        assert recent_projects() == []
        Project.create(tmp_path / "p").close()
        remember_project(tmp_path / "p")
        assert recent_projects() == [tmp_path / "p"]


def test_project_labels_can_be_exported_with_save_labels(project, tmp_path):
    project.save_labels("b", drawn(project, "b"))
    labels = project.labels("b")
    assert isinstance(labels, Volume)
    path = core.save_labels(labels.data, tmp_path / "out.nrrd", like=labels)
    assert (load_labels(path, like=project.load("b")).data == labels.data).all()
