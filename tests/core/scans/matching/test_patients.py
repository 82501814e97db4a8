"""Patients of scans: guessed together, from headers, and named by a table."""

import nibabel as nib
import numpy as np
import pytest

from command_line import refused, run
from dicom_files import ramp, write_series
from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError, DataError, ScanWarning
from napari_sslseg.core.scans.labelled import scan_subject
from napari_sslseg.core.scans.matching.subjects import describe_subjects
from napari_sslseg.core.scans.sources import collect_scans
from napari_sslseg.core.stages.finetune import split_validation

AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])
VISITS = [f"genius_0{p}0{v}" for p in (7, 8, 9) for v in range(3)]


def write(path, seed=0, labels=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 900, (8, 8, 4)).astype(np.int16)
    if labels:
        values = (np.arange(256).reshape(8, 8, 4) > 100).astype(np.uint8)
    nib.save(nib.Nifti1Image(values, AFFINE), path)
    return path


@pytest.fixture
def visits(tmp_path):
    for seed, name in enumerate(VISITS):
        write(tmp_path / "images" / f"{name}.nii.gz", seed)
        write(tmp_path / "labels" / f"{name}.nii.gz", labels=True)
    return tmp_path


def subjects(scans):
    return {scan.name: scan_subject(scan) for scan in scans}


@pytest.mark.parametrize("how", ["folder", "files", "series", "volumes", "labelled", "pairs"])
def test_visits_of_a_patient_never_cross_a_split(visits, how):
    files = sorted((visits / "images").iterdir())
    scans = {
        "folder": lambda: collect_scans(visits / "images"),
        "files": lambda: collect_scans(files),
        "series": lambda: [core.list_series(file)[0] for file in files],
        "volumes": lambda: [core.load_volume(file) for file in files],
        "labelled": lambda: [
            core.LabelledScan(file, visits / "labels" / file.name) for file in files
        ],
        "pairs": lambda: core.pair_scans(visits / "images", visits / "labels"),
    }[how]()
    training, validation = split_validation(scans, 0.3)
    assert len(training) == 6
    assert len({item.name[:9] for item in validation}) == 1


def test_training_and_validation_of_one_patient_are_refused(visits, tmp_path):
    both = core.pair_scans(visits / "images", visits / "labels")
    with pytest.raises(DataError, match="genius_09"):
        core.finetune(both[:8], validation=both[8:], out=tmp_path / "run")


def test_a_patient_named_by_the_user_stays(visits):
    scans = core.list_series(visits / "images")
    own = core.with_patients(scans, lambda name: name)
    assert len(set(subjects(collect_scans(own)).values())) == 9
    assert core.describe_patients(own) == "9 scans of 9 patients."
    assert "one patient" in core.describe_patients(scans)
    assert core.load_volume(scans[0], subject="x").subject == "x"


@pytest.mark.parametrize(
    "text",
    [
        "scan,patient\n{0},a\n{1},b\n",
        "\ufeffPatient;Scan;Age\na;{0};7\nb;{1};9\n",
        "scan\tpatient\n{0}.nii.gz\ta\nimages/{1}.nii.gz\tb\n\n",
    ],
    ids=["commas", "BOM and semicolons", "tabs, files and folders"],
)
def test_a_table_names_the_patients(tmp_path, text):
    names = ["größe_1", "p 2"]
    for seed, name in enumerate(names):
        write(tmp_path / "images" / f"{name}.nii.gz", seed)
    (tmp_path / "table.csv").write_text(text.format(*names), encoding="utf-8")
    found = core.with_patients(core.list_series(tmp_path / "images"), tmp_path / "table.csv")
    assert subjects(found) == {names[0]: "a", names[1]: "b"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scan,patient\np1,a\n", ["lacks", "p2"]),
        ("name,who\np1,a\n", ["scan and patient", "name,who"]),
        ("scan,patient\np1,a\np1,b\np2,a\n", ["two patients", "p1"]),
        ("scan,patient\np1,\np2,a\n", ["line 2", "lacks the patient"]),
        ("scan,patient\np1\np2,a\n", ["line 2"]),
        ("scan,patient\np1,Meier, Hans\np2,Meier, Karl\n", ["line 2", "more cells"]),
        ("scan,patient\n", ["names no scan"]),
        ("scan,patient\np1,a\np1.nii.gz,b\np2,c\n", ["p1", "keep one"]),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, text, words):
    for seed, name in enumerate(("p1", "p2")):
        write(tmp_path / "images" / f"{name}.nii.gz", seed)
    table = tmp_path / "table.csv"
    table.write_text(text)
    with pytest.raises(DataError) as caught:
        core.with_patients(core.list_series(tmp_path / "images"), table)
    assert all(word in str(caught.value) for word in words), caught.value


def test_case_and_accents_distinguish_no_patients_of_a_table(tmp_path):
    patients = {"a": "M\u00fcller", "b": "mu\u0308ller ", "c": "Schulz"}
    for name in patients:
        write(tmp_path / f"{name}.nii.gz")
    found = core.with_patients(core.list_series(tmp_path), patients)
    assert [scan.subject for scan in found] == ["M\u00fcller", "M\u00fcller", "Schulz"]


def test_a_name_of_several_scans_needs_its_folder(tmp_path):
    for seed, name in enumerate(("s1", "s2")):
        write(tmp_path / name / "ct.nii.gz", seed)
    scans = core.list_series([tmp_path / "s1", tmp_path / "s2"])
    with pytest.raises(DataError, match="fits 2 scans"):
        core.with_patients(scans, {"ct": "a"})
    found = core.with_patients(scans, {"s1/ct": "a", "s2/ct.nii.gz": "b"})
    assert [scan.subject for scan in found] == ["a", "b"]
    with pytest.warns(ScanWarning, match="s9"):
        core.with_patients(scans, {"s1/ct": "a", "s2/ct": "b", "s9/ct": "c"})


def test_one_patient_cannot_be_split(tmp_path):
    for seed, name in enumerate(("p1_V1", "p1_V2")):
        write(tmp_path / "images" / f"{name}.nii.gz", seed)
        write(tmp_path / "labels" / f"{name}.nii.gz", labels=True)
    pairs = core.pair_scans(tmp_path / "images", tmp_path / "labels")
    assert "all scans" in core.describe_patients(pairs)
    with pytest.raises(ConfigError, match=r"one patient, p1.*--patients"):
        split_validation(pairs, 0.5)


@pytest.mark.parametrize(
    ("identities", "patients", "said"),
    [
        ([("ANONYMOUS", "Anonymous"), ("ANONYMOUS", "Anonymous")], 2, "each study"),
        ([("", ""), ("", "")], 2, "each study"),
        ([("0", "A1"), ("0", "B2")], 2, "name and birth date"),
        ([("anon", "A1"), ("anon", "A1")], 1, "name and birth date"),
        ([("Anon_01", "x"), ("Anon_02", "x")], 2, ""),
        ([("7", "A^B"), ("7", "C^D")], 1, ""),
        ([("N/A", "A1"), ("N/A", "B2")], 2, "name and birth date"),
        ([("Unbekannt", "A1"), ("anonymisé", "B2")], 2, "name and birth date"),
        ([("", "Mueller^Al"), ("", "MULLER^AL^^")], 1, "name and birth date"),
    ],
)
def test_a_patient_id_of_everybody_is_no_patient(tmp_path, identities, patients, said):
    for number, (patient_id, name) in enumerate(identities):

        def edit(ds, index, patient_id=patient_id, name=name):
            ds.PatientID, ds.PatientName = patient_id, name

        write_series(tmp_path / str(number), ramp(), edit=edit)
    scans = core.list_series(tmp_path)
    assert len({scan.subject for scan in scans}) == patients
    text = core.describe_patients(scans)
    assert said in text
    assert ("2 scans: " in text) == bool(said)


def test_a_patient_id_of_two_persons_is_doubtful(tmp_path):
    for number, (name, birth) in enumerate([("A^B", "19500101"), ("C^D", "19610202")]):

        def edit(ds, index, name=name, birth=birth):
            ds.PatientID, ds.PatientName, ds.PatientBirthDate = "12345", name, birth

        write_series(tmp_path / str(number), ramp(), edit=edit)
    text = core.describe_patients(core.list_series(tmp_path))
    assert "2 scans: " in text
    assert "another name and birth date" in text
    assert core.list_series(tmp_path / "0")[0].subject_note == ""


def test_a_resumed_run_keeps_its_patients(visits, tmp_path):
    from napari_sslseg.core.stages.resume import same_scans

    scans = core.with_patients(core.list_series(visits / "images"), lambda name: f"x{name}")
    settings = core.PretrainSettings(
        network=core.Network(widths=(4, 8)),
        training=core.Training(steps=1, batch_size=2),
        preprocessing=core.Preprocessing(size=(16, 16)),
    )
    run = core.pretrain(scans, core.MaskedPixels(), out=tmp_path / "run", settings=settings)
    again = same_scans(run, collect_scans(visits / "images"))
    assert {scan.subject for scan in again} == {f"x{name}" for name in VISITS}


class TestProject:
    def test_new_scans_join_the_patient_that_the_user_chose(self, visits, tmp_path):
        files = sorted((visits / "images").iterdir())
        with core.Project.create(tmp_path / "project") as project:
            project.add_scans([files[0], files[3], files[4]])
            project.set_subject("genius_0700", "Anna")
            project.add_scans(files)
            found = {name: project.entry(name).subject for name in project.names}
            assert {found[name] for name in VISITS[:3]} == {"Anna"}
            assert len({found[name] for name in VISITS[6:]}) == 1
            assert all(scan.subject == found[scan.name] for scan in project.scans())
            # The training does not guess again.
            assert subjects(collect_scans(project.scans())) == found
        with core.Project.open(tmp_path / "project") as project:
            assert {name: project.entry(name).subject for name in project.names} == found

    def test_doubt_is_said_when_scans_are_added(self, visits, tmp_path):
        with core.Project.create(tmp_path / "project") as project:
            events = list(project.iter_add_scans(visits / "images"))
            assert any("genius_0700" in getattr(event, "text", "") for event in events)
            assert len({entry.subject for entry in project.record.scans}) == 3


def test_a_copy_of_a_labelled_scan_is_not_counted_twice(tmp_path):
    for number in range(3):
        values = np.random.default_rng(number).integers(0, 99, (8, 8, 4)).astype(np.uint8)
        for folder in ("images", "labels")[: 2 if number < 2 else 0]:
            (tmp_path / folder).mkdir(exist_ok=True)
            written = values if folder == "images" else (values > 50).astype(np.uint8)
            nib.save(nib.Nifti1Image(written, np.eye(4)), tmp_path / folder / f"p{number}.nii")
        (tmp_path / "all").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "all" / f"case-{number}.nii")
    for unlabelled in (("all",), ("all", "images")):
        line = ("finetune", "--images", tmp_path / "images", "--labels", tmp_path / "labels")
        for folder in unlabelled:
            line += ("--unlabelled", tmp_path / folder)
        # It ends after the patients were counted.
        done = run(*line, "--classes", "neither", "--out", tmp_path / "run")
        assert refused(done, "neither")
        assert "3 scans of 3 patients" in done.stderr
        assert "copies of labelled ones are left out: case-0, case-1" in done.stderr


def test_nothing_is_assumed_about_patients_that_are_known():
    assert describe_subjects(["a", "b"], known=["a", "b"]) == "2 scans of 2 patients."
    assert "whose file names no patient" in describe_subjects(["a", "b"], known=["a"])
    assert "each scan is taken" in describe_subjects(["a", "b"])
    assert "taken" not in describe_subjects(["a", "a"], known=["a"])
