"""Misleading headers: series are not mixed up, and patients are not revealed."""

import shutil

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import generate_uid

from dicom_files import AXIAL, SAGITTAL, ramp, write_series
from napari_sslseg.core.common.errors import ScanWarning, VolumeError
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.labels import load_labels, save_labels
from napari_sslseg.core.scans.volume import load_volume, load_volumes


def usable(path):
    return [item for item in list_series(path) if item.problem is None]


def places(steps, side=None):
    found = [np.array([0.0, 0.0, step]) for step in steps]
    for index, millimetres in (side or {}).items():
        found[index][1] += millimetres
    return found


# --- names


def test_names_do_not_depend_on_other_files_or_the_folder(tmp_path):
    """Two examinations of one patient with one protocol: labels are found by name."""
    write_series(tmp_path / "baseline", ramp(seed=1), series="1.2.10")
    alone = usable(tmp_path / "baseline")[0].name
    write_series(tmp_path / "follow-up", ramp(seed=2), series="1.2.20")
    both = {item.files[0].parent.name: item.name for item in usable(tmp_path)}
    assert both["baseline"] == alone
    assert both["follow-up"] != alone
    (tmp_path / "baseline").rename(tmp_path / "zzz")
    moved = {item.files[0].parent.name: item.name for item in usable(tmp_path)}
    assert moved == {"zzz": alone, "follow-up": both["follow-up"]}


def test_series_without_uids_have_unique_names(tmp_path):
    def edit(ds, index):
        for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
            delattr(ds, keyword)

    write_series(tmp_path / "a", ramp(seed=1), edit=edit)
    write_series(tmp_path / "b", ramp(seed=2), edit=edit)
    names = [item.name for item in usable(tmp_path)]
    assert len(set(names)) == 2
    assert next(item.name for item in usable(tmp_path / "b")) in names


@pytest.mark.parametrize(
    ("description", "patient"),
    [
        ("geb. 01.02.1970 Abdomen", {}),
        ("Abdomen 1970-02-01", {}),
        ("Abdomen 19700201", {}),
        ("Abdomen 12APR1961", {}),
        ("Apr 12 1961 Abdomen", {}),
        ("12. April 61", {}),
        ("Abdomen 610412", {}),
        ("Abdomen_12_04_1961", {}),
        ("Abdomen b.1961", {}),
        ("１９６１０４１２", {"SpecificCharacterSet": "ISO_IR 192"}),
        ("Abdomen 1961年4月12日", {"SpecificCharacterSet": "ISO_IR 192"}),
        ("64Y Abdomen", {}),
        ("Abdomen 0171 2345678", {}),
        ("liver for Dr Finkel", {"ReferringPhysicianName": "Finkel^Bo"}),
        ("王芳 腹部", {"PatientName": "王^芳", "SpecificCharacterSet": "ISO_IR 192"}),
        ("Muller abd", {"PatientName": "Müller^Eva", "SpecificCharacterSet": "ISO_IR 192"}),
        ("MUELLER abd", {"PatientName": "Müller^Eva", "SpecificCharacterSet": "ISO_IR 192"}),
        ("abd Müller", {"PatientName": "Mueller^Eva", "SpecificCharacterSet": "ISO_IR 192"}),
        ("abd Sorensen", {"PatientName": "Sørensen^Bo", "SpecificCharacterSet": "ISO_IR 192"}),
        ("abd Soerensen", {"PatientName": "Sørensen^Bo", "SpecificCharacterSet": "ISO_IR 192"}),
        ("abd Lukasz", {"PatientName": "Łukasz^Ewa", "SpecificCharacterSet": "ISO_IR 192"}),
        ("abd LiWu", {"PatientName": "Li^Wu"}),
        ("abd WuLi", {"PatientName": "Li^Wu"}),
        ("abd Finkel", {"RequestingPhysician": "Finkel^Bo"}),
        ("abd Finkel", {"NameOfPhysiciansReadingStudy": ["Ott^Al", "Finkel^Bo"]}),
        ("for Prof. Finkel", {}),
        ("Dr_Finkel abd", {}),
        ("abd 65J", {}),
        ("OttolineSesame", {}),
        ("Abdomen ALT77", {"OtherPatientIDs": "ALT77"}),
        ("abd 7", {"PatientID": "7"}),
        ("Maiden abd", {"PatientBirthName": "Maiden"}),
        ("abd Mueller", {"PatientName": "Müller^Eva".encode().decode("latin-1")}),
        ("abd Müller".encode().decode("latin-1"), {"PatientName": "Mueller^Eva"}),
        ("abd Weis", {"PatientName": "Weiß^Eva", "SpecificCharacterSet": "ISO_IR 192"}),
        ("WEISS abd", {"OperatorsName": "Weiß^Eva", "SpecificCharacterSet": "ISO_IR 192"}),
        ("abd Finkel", {"ContentCreatorName": "Finkel^Bo"}),
        ("abd Finkel", {"PhysicianApprovingInterpretation": "Finkel^Bo"}),
        ("abd Finkel", {"ReviewerName": "Finkel^Bo"}),
        ("abd ADM-9", {"AdmissionID": "ADM-9"}),
    ],
)
def test_a_description_that_names_the_patient_is_left_out(tmp_path, description, patient):
    def edit(ds, index):
        for keyword, value in patient.items():
            setattr(ds, keyword, value)
        ds.SeriesDescription = description

    write_series(tmp_path, ramp(slices=2), edit=edit)
    [item] = usable(tmp_path)
    mark = item.name.rsplit("_", 1)[1]
    assert item.name == f"{item.subject}_CT_3_{mark}"


def test_persons_in_sequences_are_left_out(tmp_path):
    def edit(ds, index):
        other, code, physician = Dataset(), Dataset(), Dataset()
        other.PatientID = "ALT77"
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "Finkel, Bo"
        physician.PersonIdentificationCodeSequence = [code]
        ds.OtherPatientIDsSequence = [other]
        ds.ReferringPhysicianIdentificationSequence = [physician]
        ds.SeriesDescription = ("abd ALT77", "abd Finkel")[ds.SeriesNumber - 3]

    for number in (3, 4):
        write_series(
            tmp_path / str(number),
            ramp(slices=2),
            edit=lambda ds, index, n=number: (setattr(ds, "SeriesNumber", n), edit(ds, index)),
        )
    for item, number in zip(usable(tmp_path), (3, 4), strict=True):
        assert item.name.rsplit("_", 1)[0] == f"{item.subject}_CT_{number}"


def test_persons_in_texts_of_the_manufacturer_are_left_out(tmp_path):
    def edit(ds, index):
        ds.OperatorsName = "Finkel^Bo"
        ds.ConvolutionKernel = "B30f" if index % 2 else "B70f Finkel"
        ds.InstanceNumber = index

    values = ramp(slices=4)
    places = [(-10.0, -20.0, 3.0 * (index // 2)) for index in range(4)]
    write_series(tmp_path, values, edit=edit, places=places)
    names = [item.name for item in usable(tmp_path)]
    assert len(names) == 2
    assert not any("finkel" in name.lower() for name in names)
    assert any("B70f" in name for name in names)


@pytest.mark.parametrize(
    "description",
    [
        "T1w 2.5mm B30f",
        "Abdomen 1.25",
        "tse 3.0 (5)",
        "mprage 256x256 iso",
        "ep2d b1000 TR12500",
        "DWI b 0 800 1600",
        "Drum pattern 3 mm",
        "Blue 2.5",
        "3D profile",
    ],
)
def test_other_descriptions_stay(tmp_path, description):
    def edit(ds, index):
        ds.SeriesDescription = description

    write_series(tmp_path, ramp(slices=2), edit=edit)
    assert description.split()[0] in usable(tmp_path)[0].name


def test_a_series_number_that_is_the_patient_id_is_left_out(tmp_path):
    def edit(ds, index):
        ds.SeriesNumber, ds.PatientID = 471123, "471123"

    write_series(tmp_path, ramp(slices=2), edit=edit)
    assert "471123" not in repr(usable(tmp_path))


# --- copies


def test_slices_with_one_instance_uid_are_not_duplicates(tmp_path):
    """Some anonymisation tools give all slices the same UID."""

    def edit(ds, index):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"

    values = ramp()
    write_series(tmp_path, values, edit=edit)
    source = load_volume(tmp_path)
    np.testing.assert_array_equal(
        source.geometry.to_source(source.data).transpose(2, 1, 0), values - 1024
    )


def test_a_processed_series_that_kept_its_uids_is_not_mixed_with_its_source(tmp_path):
    uids = {"series": "1.2.3", "study": "1.2", "frame_of_reference": "1.2.4"}

    def edit(ds, index):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{index + 1}"

    write_series(tmp_path / "orig", ramp(seed=1), edit=edit, **uids)
    write_series(tmp_path / "denoised", ramp(seed=2), edit=edit, **uids)
    with pytest.raises(VolumeError, match="same position"):
        load_volume(tmp_path)
    load_volume(tmp_path / "denoised")


def test_the_same_image_with_another_uid_is_used_once(tmp_path):
    paths = write_series(tmp_path)
    ds = dcmread(paths[3])
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.99"
    ds.save_as(tmp_path / "again.dcm")
    assert load_volume(tmp_path).data.shape == (6, 7, 9)


# --- UIDs that anonymisation gave to each image


@pytest.mark.parametrize(
    "keywords",
    [
        ("FrameOfReferenceUID",),
        ("SeriesInstanceUID",),
        ("SeriesInstanceUID", "FrameOfReferenceUID", "StudyInstanceUID"),
        ("SeriesInstanceUID", "InstanceNumber"),
    ],
    ids=lambda keywords: "+".join(keywords),
)
def test_images_with_uids_of_their_own_are_joined_with_a_note(tmp_path, keywords):
    def edit(ds, index):
        for keyword in keywords:
            setattr(ds, keyword, None if keyword == "InstanceNumber" else generate_uid())

    values = ramp()
    write_series(tmp_path / "one", values, edit=edit)
    with pytest.warns(ScanWarning, match="image by image"):
        volume = load_volume(tmp_path / "one")
    source = volume.geometry.to_source(volume.data).transpose(2, 1, 0)
    np.testing.assert_array_equal(source, values - 1024)
    name = volume.name
    (tmp_path / "one").rename(tmp_path / "moved")
    assert [item.name for item in usable(tmp_path / "moved")] == [name]


def test_joined_images_that_lack_one_are_refused_with_the_reason(tmp_path):
    def edit(ds, index):
        ds.SeriesInstanceUID = generate_uid()

    write_series(tmp_path, ramp(slices=6), places=places([0, 3, 6, 12, 15, 18]), edit=edit)
    [item] = list_series(tmp_path)
    assert "lacks slices" in item.problem
    assert "series UID of their own" in item.problem


def test_single_images_of_different_series_stay_apart(tmp_path):
    """Other numbers, patients, sizes or directions."""

    def number(ds, index):
        ds.SeriesInstanceUID, ds.SeriesNumber = generate_uid(), index + 1

    def patient(ds, index):
        ds.SeriesInstanceUID, ds.PatientID = generate_uid(), f"P{index}"

    def first(ds, index):
        ds.SeriesInstanceUID, ds.InstanceNumber = generate_uid(), 1

    for name, edit in (("number", number), ("patient", patient), ("first", first)):
        write_series(tmp_path / name, ramp(slices=4), edit=edit)
        assert [item.image.geometry.shape[2] for item in usable(tmp_path / name)] == [1] * 4


def test_labels_of_joined_images_are_written_as_dicom_seg(tmp_path):
    def edit(ds, index):
        ds.SeriesInstanceUID = ds.FrameOfReferenceUID = generate_uid()

    write_series(tmp_path / "scan", edit=edit)
    with pytest.warns(ScanWarning, match="image by image"):
        volume = load_volume(tmp_path / "scan")
    labels = np.zeros(volume.data.shape, np.uint8)
    labels[2:4, 2:5, 2:5] = 1
    path = save_labels(labels, tmp_path / "labels.dcm", like=volume)
    np.testing.assert_array_equal(load_labels(path, like=volume).data, labels)


def test_a_real_series_with_a_frame_of_reference_for_each_image(data_dir):
    with pytest.warns(ScanWarning, match="frame of reference of its own"):
        volume = load_volume(data_dir / "format_faults/forperslice")
    assert volume.data.shape == (6, 20, 24)


# --- volumes that must stay separate


@pytest.mark.parametrize(
    ("keyword", "values"),
    [("PatientID", ("a", "b")), ("FrameOfReferenceUID", ("1.2.7", "1.2.8"))],
)
def test_one_uid_for_two_series_does_not_join_them(tmp_path, keyword, values):
    def edit(ds, index):
        setattr(ds, keyword, values[index % 2])

    write_series(tmp_path, ramp(slices=8), edit=edit)
    assert [item.image.geometry.shape[2] for item in usable(tmp_path)] == [4, 4]


def test_series_without_uids_are_separated_by_description(tmp_path):
    def without(description, number):
        def edit(ds, index):
            del ds.SeriesInstanceUID
            ds.SeriesNumber, ds.SeriesDescription = number, description

        return edit

    write_series(tmp_path, edit=without("pre", 1), name="a{}", origin=(0, 0, 0))
    write_series(tmp_path, edit=without("post", 2), name="b{}", origin=(0, 0, 1))
    assert [item.image.geometry.shape[2] for item in usable(tmp_path)] == [6, 6]


def test_interleaved_echoes_are_two_volumes(tmp_path):
    def edit(ds, index):
        ds.EchoTime = ("5", "80")[index % 2]

    write_series(tmp_path, ramp(slices=12), distance=1.5, edit=edit, modality="MR")
    found = usable(tmp_path)
    assert [item.image.geometry.shape[2] for item in found] == [6, 6]
    assert [item.name.rsplit("_", 1)[1] for item in found] == ["echo-5", "echo-80"]


def test_interleaved_acquisitions_are_one_volume(tmp_path):
    def edit(ds, index):
        ds.AcquisitionNumber = 1 + index % 2

    write_series(tmp_path, ramp(slices=12), edit=edit, modality="MR")
    assert load_volume(tmp_path).geometry.shape[2] == 12


def test_magnitude_and_phase_are_named(tmp_path):
    def edit(ds, index):
        ds.ImageType = ["ORIGINAL", "PRIMARY", ("M", "P")[index % 2], "ND"]

    steps = np.repeat(np.arange(5) * 3.0, 2)
    write_series(tmp_path, ramp(slices=10), places=places(steps), edit=edit, modality="MR")
    assert sorted(item.name.rsplit("_", 1)[1] for item in usable(tmp_path)) == ["M", "P"]


def test_acquisitions_in_two_places_are_two_volumes(tmp_path):
    def edit(ds, index):
        ds.AcquisitionNumber = 1 if index < 5 else 2

    steps = [0, 3, 6, 9, 12, 90, 93, 96, 99, 102]
    write_series(tmp_path, ramp(slices=10), places=places(steps), edit=edit, modality="MR")
    assert [volume.data.shape[0] for volume in load_volumes(tmp_path)] == [5, 5]


def test_a_gap_within_an_acquisition_is_refused(tmp_path):
    def edit(ds, index):
        ds.AcquisitionNumber = 1

    write_series(tmp_path, ramp(slices=4), places=places([0, 3, 6, 12]), edit=edit)
    with pytest.raises(VolumeError, match="lacks slices"):
        load_volume(tmp_path)


@pytest.mark.parametrize(("slices", "problem"), [(3, True), (12, False)])
def test_a_few_slices_named_localizer_are_a_localizer(tmp_path, slices, problem):
    def edit(ds, index):
        ds.SeriesDescription = "FAST LOCALIZER"

    write_series(tmp_path, ramp(slices=slices), edit=edit, modality="MR")
    [item] = list_series(tmp_path)
    assert (item.problem is not None) == problem
    if problem:
        assert not item.is_scan
        assert "localizer" in item.problem


@pytest.mark.parametrize(
    ("description", "slices", "distance", "thickness", "localizer"),
    [
        ("PILOT-Trial T2 axial", 8, 3.0, 3.0, False),
        ("PILOT-Trial T2 axial", 4, 8.0, 8.0, False),
        ("Survey study T1", 6, 8.0, 6.0, False),
        ("pilot t2 sag", 8, 3.0, 3.0, False),
        ("Pilot sag", 3, 3.0, 3.0, True),
        ("PILOT", 7, 10.0, 8.0, True),
        ("scout", 5, 20.0, 5.0, True),
        ("Survey 3 planes", 9, 8.0, 8.0, True),
        ("pilot trial localizer", 3, 8.0, 8.0, True),
    ],
)
def test_a_study_named_pilot_is_no_localizer(
    tmp_path, description, slices, distance, thickness, localizer
):
    def edit(ds, index):
        ds.SeriesDescription, ds.SliceThickness = description, thickness

    write_series(tmp_path, ramp(slices=slices), edit=edit, modality="MR", distance=distance)
    [item] = list_series(tmp_path)
    assert (item.problem is not None) == localizer


def test_a_real_study_named_pilot_is_a_scan(data_dir):
    assert load_volume(data_dir / "format_faults/pilotstudy").data.shape == (8, 20, 24)


# --- irregular stacks


def test_one_shifted_slice_is_not_a_tilt(tmp_path):
    paths = write_series(
        tmp_path, ramp(slices=10), places=places(np.arange(10) * 3.0, {4: 20.0}), distance=3.0
    )
    name = next(p.name for p in paths if dcmread(p).ImagePositionPatient[1] == 20)
    # 20 mm off, in mm although the pixels have 0.8 mm.
    with pytest.raises(VolumeError, match=f"not a straight stack: {name} is 20 mm off"):
        load_volume(tmp_path)


def test_a_distant_position_allocates_no_memory(tmp_path):
    steps = np.arange(30) * 3.0
    write_series(tmp_path, ramp(slices=30), places=places(steps, {29: 12_000.0}))
    with pytest.raises(VolumeError, match="not a straight stack"):
        load_volume(tmp_path)
    places_far = [np.array([0.0, 500.0 * k, 3.0 * k]) for k in range(30)]
    shutil.rmtree(tmp_path)
    write_series(tmp_path, ramp(slices=30), places=places_far)
    with pytest.raises(VolumeError, match="more than a tilted gantry"):
        load_volume(tmp_path)


# --- finding files


def test_old_files_without_magic_bytes_and_suffix_are_found(tmp_path):
    for path in write_series(tmp_path / "new", name="IM{:04d}"):
        ds = dcmread(path)
        (tmp_path / "old").mkdir(exist_ok=True)
        whole = path.read_bytes()
        group_length = ds.file_meta.FileMetaInformationGroupLength
        # Without preamble, mark and file meta information: explicit little endian from group 8 on.
        (tmp_path / "old" / path.name).write_bytes(whole[128 + 4 + 12 + group_length :])
    old, new = load_volume(tmp_path / "old"), load_volume(tmp_path / "new")
    np.testing.assert_array_equal(old.data, new.data)
    (tmp_path / "old" / "NOTES").write_text("nothing of DICOM")
    assert len(usable(tmp_path / "old")) == 1


def disc(folder, tmp_path):
    listing = FileSet()
    for path in write_series(folder):
        listing.add(dcmread(path))
    listing.write(tmp_path / "disc")
    return tmp_path / "disc"


def test_a_disc_with_lower_case_names_is_read(tmp_path):
    root = disc(tmp_path / "series", tmp_path)
    expected = load_volume(root / "DICOMDIR")
    for path in sorted(root.rglob("*"), key=lambda path: -len(path.parts)):
        if path.name != "DICOMDIR":
            path.rename(path.with_name(path.name.lower()))
    np.testing.assert_array_equal(load_volume(root / "DICOMDIR").data, expected.data)


def test_missing_files_of_a_disc_are_reported(tmp_path):
    root = disc(tmp_path / "series", tmp_path)
    whole = load_volume(root / "DICOMDIR")
    last = max(
        (path for path in root.rglob("*") if path.is_file() and path.name != "DICOMDIR"),
        key=lambda path: dcmread(path).ImagePositionPatient[2],
    )
    last.unlink()
    with pytest.warns(ScanWarning, match="lists 1 missing file"):
        [volume] = load_volumes(root / "DICOMDIR")
    assert volume.data.shape[0] == whole.data.shape[0] - 1


def test_a_dicomdir_cannot_refer_outside_its_folder(tmp_path):
    from napari_sslseg.core.scans.formats.dicom.dicomdir import listed_files

    root = disc(tmp_path / "series", tmp_path)
    ds = dcmread(root / "DICOMDIR")
    for record in ds.DirectoryRecordSequence:
        if "ReferencedFileID" in record:
            record.ReferencedFileID = ["..", "SERIES", "IM"]
    ds.save_as(root / "DICOMDIR")
    assert listed_files(root / "DICOMDIR") == ([root / "DICOMDIR"], [])


def test_linked_folders_are_followed_once(tmp_path):
    write_series(tmp_path / "elsewhere/ct")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "scans")
    assert load_volume(tmp_path / "scans").data.shape == (6, 7, 9)


def test_directions_are_in_the_names(tmp_path):
    same = {"series": "1.2.3", "frame_of_reference": "1.2.4"}
    write_series(tmp_path, name="a{}", orientation=AXIAL, **same)
    write_series(tmp_path, name="b{}", orientation=SAGITTAL, **same)
    names = [item.name for item in usable(tmp_path)]
    assert [name.rsplit("_", 1)[1] for name in names] == ["axial", "sagittal"]
