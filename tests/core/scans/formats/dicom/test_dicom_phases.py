"""Volumes of one series are told apart by whatever the headers say, and by nothing else."""

import warnings

import numpy as np
import pytest
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, ImplicitVRLittleEndian

from dicom_files import ramp, write_series
from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.volume import load_volume, load_volumes

SLICES, PHASES = 5, 3


def usable(path):
    return [item for item in list_series(path) if item.problem is None]


def write_phases(folder, edit, *, phases=PHASES, slices=SLICES, modality="MR", lost=()):
    """Write a series of several volumes; ``edit(ds, phase, slice)`` tells them apart.

    Returns the values, shape (phases, slices, rows, columns). ``lost`` are pairs that are omitted.
    """
    values = ramp(slices=phases * slices, seed=phases)

    def both(ds, index):
        ds.InstanceNumber = 1
        edit(ds, *divmod(index, slices))

    kept = [i for i in range(phases * slices) if divmod(i, slices) not in set(lost)]
    places = [np.array([-10, -20, 30 + 3.0 * (i % slices)]) for i in kept]
    write_series(
        folder,
        values[kept],
        places=places,
        edit=lambda ds, number: both(ds, kept[number]),
        modality=modality,
        distance=3.0,
        intercept=0.0,
    )
    return values.reshape(phases, slices, *values.shape[1:])


def found_values(path):
    """Return name endings and values of the usable volumes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volumes = load_volumes(path)
    return {
        volume.name.split("_", 4)[-1].partition("_")[2]: volume.geometry.to_source(volume.data)
        .transpose(2, 1, 0)
        .astype(int)
        for volume in volumes
    }


def check(path, values, names):
    found = found_values(path)
    assert set(found) == set(names)
    for name, expected in zip(names, values, strict=True):
        np.testing.assert_array_equal(found[name], expected)


# --- what tells volumes apart


def private(ds, group, creator, element, vr, value, block=0x10):
    ds.add_new((group, block), "LO", creator)
    ds.add_new((group, block << 8 | element), vr, value)


def siemens(ds, value):
    private(ds, 0x0019, "SIEMENS MR HEADER", 0x0C, "IS", str(value))


def siemens_elsewhere(ds, value):
    private(ds, 0x0019, "SIEMENS MR HEADER", 0x0C, "IS", str(value), block=0x12)


def siemens_bytes(ds, value):
    private(ds, 0x0019, "SIEMENS MR HEADER", 0x0C, "UN", f"{value:<5d}".encode())


def siemens_without_owner(ds, value):
    ds.add_new((0x0019, 0x100C), "IS", str(value))


def ge(ds, value):
    private(ds, 0x0043, "GEMS_PARM_01", 0x39, "IS", [str(1_000_000_000 + value), "8", "0", "0"])


def ge_plain(ds, value):
    private(ds, 0x0043, "GEMS_PARM_01", 0x39, "IS", [str(value), "8", "0", "0"])


def ge_bytes(ds, value):
    text = f"{1_000_000_000 + value}\\8\\0\\0".encode()
    private(ds, 0x0043, "GEMS_PARM_01", 0x39, "UN", text + b" " * (len(text) % 2))


def philips(ds, value):
    private(ds, 0x2001, "Philips Imaging DD 001", 0x03, "FL", float(value))


def philips_bytes(ds, value):
    private(ds, 0x2001, "Philips Imaging DD 001", 0x03, "UN", np.float32(value).tobytes())


def standard(ds, value):
    ds.DiffusionBValue = float(value)


def sequence_name(ds, value):
    ds.SequenceName = f"*ep_b{value}#1"


def image_comments(ds, value):
    ds.ImageComments = f"b={value}(0.1,0.2,0.3)"


B_VALUES = [
    siemens,
    siemens_elsewhere,
    siemens_bytes,
    siemens_without_owner,
    ge,
    ge_plain,
    ge_bytes,
    philips,
    philips_bytes,
    standard,
    sequence_name,
    image_comments,
]


@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
@pytest.mark.parametrize("store", B_VALUES)
def test_b_values_of_all_vendors_are_in_the_names(tmp_path, store, implicit):
    def edit(ds, phase, number):
        store(ds, (1000, 0, 500)[phase])
        if implicit:
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian

    values = write_phases(tmp_path, edit)
    check(tmp_path, values, ["b-value-1000", "b-value-0", "b-value-500"])


def test_private_attributes_of_another_owner_are_no_b_values(tmp_path):
    def edit(ds, phase, number):
        private(ds, 0x0019, "GEMS_ACQU_01", 0x0C, "IS", str(phase))

    write_phases(tmp_path, edit)
    assert usable(tmp_path) == []


def test_blocks_of_two_manufacturers_in_one_file(tmp_path):
    """As after processing on a workstation of another manufacturer."""

    def edit(ds, phase, number):
        private(ds, 0x0019, "GEMS_ACQU_01", 0x0C, "DS", "7")
        private(ds, 0x0019, "SIEMENS MR HEADER", 0x0C, "IS", str(300 * phase), block=0x11)

    check(tmp_path, write_phases(tmp_path, edit), ["b-value-0", "b-value-300", "b-value-600"])


@pytest.mark.parametrize("name", ["bval_ge", "bval_si"])
def test_real_private_b_values(data_dir, name):
    found = found_values(data_dir / "format_faults" / name)
    assert set(found) == {"b-value-0", "b-value-500", "b-value-1000"}
    lowest = {key: values.min() for key, values in found.items()}
    assert lowest == {"b-value-0": 571, "b-value-500": 671, "b-value-1000": 771}


def test_directions_of_ge_are_separate_volumes(tmp_path):
    def edit(ds, phase, number):
        ge(ds, 1000)
        ds.add_new((0x0019, 0x0010), "LO", "GEMS_ACQU_01")
        for axis in range(3):
            ds.add_new((0x0019, 0x10BB + axis), "DS", str(float(axis == phase)))

    write_phases(tmp_path, edit)
    assert len(usable(tmp_path)) == PHASES


def test_b_0_repeated_beside_directions(tmp_path):
    """Two images without diffusion weighting, and two directions."""

    def edit(ds, phase, number):
        ds.DiffusionBValue = (0.0, 0.0, 800.0, 800.0)[phase]
        if phase > 1:
            ds.DiffusionGradientOrientation = [float(phase == 2), float(phase == 3), 0.0]
        ds.AcquisitionTime = f"10{10 + phase:02d}{number:02d}"

    values = write_phases(tmp_path, edit, phases=4)
    found = found_values(tmp_path)
    assert len(found) == 4
    assert sum(name.startswith("b-value-0") for name in found) == 2
    matched = [any((stack == phase).all() for stack in found.values()) for phase in values]
    assert all(matched)


@pytest.mark.parametrize(
    ("keyword", "given", "names"),
    [
        ("NominalPercentageOfCardiacPhase", (0.0, 35.0, 70.0), "cardiac-phase-{:g}"),
        ("NominalPercentageOfRespiratoryPhase", (0.0, 50.0, 100.0), "respiratory-phase-{:g}"),
        ("FrameReferenceTime", ("500", "1500", "30000"), "frame-time-{}"),
        ("InversionTime", ("100", "400", "1600"), "inversion-{}"),
        ("FlipAngle", ("5", "10", "15"), "flip-angle-{}"),
        ("KVP", ("80", "120", "140"), "tube-voltage-{}"),
        ("ConvolutionKernel", ("B30f", "B60f", "B70f"), "kernel-{}"),
        ("EchoNumbers", ("1", "2", "3"), "echo-{}"),
        ("ComplexImageComponent", ("MAGNITUDE", "REAL", "IMAGINARY"), "{}"),
    ],
)
def test_one_entry_tells_volumes_apart(tmp_path, keyword, given, names):
    def edit(ds, phase, number):
        setattr(ds, keyword, given[phase])
        ds.EchoTime = None if keyword == "EchoNumbers" else "12"

    values = write_phases(tmp_path, edit)
    check(tmp_path, values, [names.format(value) for value in given])


@pytest.mark.parametrize("keyword", ["ImageComments", "SeriesDescription"])
def test_texts_tell_volumes_apart_but_are_not_in_the_names(tmp_path, keyword):
    def edit(ds, phase, number):
        setattr(ds, keyword, ("Ottoline at rest", "Ottoline at work", "50%")[phase])

    values = write_phases(tmp_path, edit)
    volumes = load_volumes(tmp_path)
    assert len(volumes) == PHASES
    stacks = [v.geometry.to_source(v.data).transpose(2, 1, 0) for v in volumes]
    assert all(any((stack == phase).all() for stack in stacks) for phase in values)
    assert any(volume.name.endswith("-50") for volume in volumes)
    assert "ttoline" not in repr(list_series(tmp_path))


def test_components_of_ge_are_named(tmp_path):
    def edit(ds, phase, number):
        private(ds, 0x0043, "GEMS_PARM_01", 0x2F, "SS", (0, 2, 3)[phase])

    check(tmp_path, write_phases(tmp_path, edit), ["MAGNITUDE", "REAL", "IMAGINARY"])


def test_a_real_cardiac_phase_in_percent(data_dir):
    found = found_values(data_dir / "format_faults/ctnominal")
    assert {name: v.min() for name, v in found.items()} == {
        "cardiac-phase-0": 571,
        "cardiac-phase-10": 671,
        "cardiac-phase-20": 771,
    }


def test_echo_and_time_point_together(tmp_path):
    def edit(ds, phase, number):
        ds.EchoTime, ds.TemporalPositionIdentifier = ("5", "80")[phase // 2], phase % 2 + 1

    values = write_phases(tmp_path, edit, phases=4)
    names = [f"echo-{echo}_time-point-{time}" for echo in (5, 80) for time in (1, 2)]
    check(tmp_path, values, names)


def test_the_order_of_slices_and_numbers_does_not_matter(tmp_path):
    """Slices from head to feet, and equal instance numbers in all volumes."""

    def edit(ds, phase, number):
        ds.InstanceNumber, ds.TemporalPositionIdentifier = SLICES - number, PHASES - phase

    values = write_phases(tmp_path, edit)
    check(tmp_path, values, ["time-point-3", "time-point-2", "time-point-1"])


def test_a_volume_without_the_entry_has_a_name_of_its_own(tmp_path):
    def edit(ds, phase, number):
        if phase:
            ds.TemporalPositionIdentifier = phase + 1

    values = write_phases(tmp_path, edit)
    check(tmp_path, values, ["time-point-none", "time-point-2", "time-point-3"])


def test_the_same_number_written_in_two_ways_is_one_value(tmp_path):
    def edit(ds, phase, number):
        ds.EchoTime = (("5", "5.00", "5.0"), ("80", "80.0", "80.000"))[phase][number % 3]

    check(tmp_path, write_phases(tmp_path, edit, phases=2), ["echo-5", "echo-80"])


# --- times that differ between slices


def test_trigger_times_vary_with_the_heart_rate(tmp_path):
    def edit(ds, phase, number):
        ds.TriggerTime = f"{phase * (40 + 1.7 * number):.1f}"

    values = write_phases(tmp_path, edit, phases=12)
    check(tmp_path, values, [f"phase-{number + 1}" for number in range(12)])


def test_trigger_times_without_a_course_are_no_phases(tmp_path):
    """Delays that only happen to be different do not tell which image belongs to which volume."""
    rng = np.random.default_rng(1)
    delays = rng.uniform(10, 900, (SLICES, 4))

    def edit(ds, phase, number):
        ds.TriggerTime = f"{delays[number, phase]:.1f}"

    write_phases(tmp_path, edit, phases=4)
    assert usable(tmp_path) == []


def test_a_real_cine_with_a_changing_heart_rate(data_dir):
    found = found_values(data_dir / "format_faults/cinejit")
    assert {name: v.min() for name, v in found.items()} == {
        f"phase-{number + 1}": 571 + 100 * number for number in range(4)
    }


def test_frame_times_of_pet_differ_between_beds(tmp_path):
    def edit(ds, phase, number):
        ds.FrameReferenceTime = str(1000 * phase + 7 * number)

    check(tmp_path, write_phases(tmp_path, edit), ["frame-1", "frame-2", "frame-3"])


@pytest.mark.parametrize("interleaved", [False, True])
def test_repeats_are_numbered_by_acquisition_time_with_a_note(tmp_path, interleaved):
    def edit(ds, phase, number):
        step = number * PHASES + phase if interleaved else phase * SLICES + number
        ds.AcquisitionDate, ds.AcquisitionTime = "20260101", f"1015{step:02d}"

    values = write_phases(tmp_path, edit)
    check(tmp_path, values, ["repeat-1", "repeat-2", "repeat-3"])
    assert all("acquisition time" in item.notes[0] for item in usable(tmp_path))


def test_a_scan_beyond_midnight_keeps_its_order(tmp_path):
    def edit(ds, phase, number):
        ds.AcquisitionDate = ("20251231", "20260101", "20260101")[phase]
        ds.AcquisitionTime = ("2359", "0001", "0003")[phase] + f"{number:02d}"

    check(tmp_path, write_phases(tmp_path, edit), ["repeat-1", "repeat-2", "repeat-3"])


def test_image_numbers_are_the_last_resort_with_a_note(tmp_path):
    def edit(ds, phase, number):
        ds.InstanceNumber = phase * SLICES + number + 1

    check(tmp_path, write_phases(tmp_path, edit), ["repeat-1", "repeat-2", "repeat-3"])
    assert all("image number" in item.notes[0] for item in usable(tmp_path))


def test_image_numbers_without_order_are_not_used(tmp_path):
    numbers = np.random.default_rng(3).permutation(PHASES * SLICES)

    def edit(ds, phase, number):
        ds.InstanceNumber = int(numbers[phase * SLICES + number])

    write_phases(tmp_path, edit)
    with pytest.raises(VolumeError, match="3 images at each"):
        load_volume(tmp_path)


@pytest.mark.parametrize("timed", [False, True])
def test_images_without_positions_of_their_own_are_refused(tmp_path, timed):
    """As after removal of the geometry: all at one position."""

    def edit(ds, index):
        ds.InstanceNumber = index + 1
        if timed:
            ds.AcquisitionTime = f"1015{index:02d}"

    write_series(tmp_path, ramp(slices=8), places=[[0, 0, 0]] * 8, edit=edit)
    [item] = list_series(tmp_path)
    assert "its 8 images all have the position (0, 0, 0) mm" in item.problem


# --- lost slices


@pytest.mark.parametrize("lost", [(2, 4), (0, 0), (1, 2)], ids=["end", "start", "middle"])
def test_a_slice_that_a_dynamic_series_lacks_is_named(tmp_path, lost):
    def edit(ds, phase, number):
        ds.TemporalPositionIdentifier = phase + 1

    values = write_phases(tmp_path, edit, lost=[lost])
    whole = [phase for phase in range(PHASES) if phase != lost[0]]
    check(tmp_path, values[whole], [f"time-point-{phase + 1}" for phase in whole])
    [problem] = [item.problem for item in list_series(tmp_path) if item.problem]
    assert f"time-point-{lost[0] + 1}" in problem
    assert "lacks 1 of 5 slices" in problem
    assert f"{30 + 3 * lost[1]}) mm" in problem


def test_a_dynamic_series_that_was_stopped(tmp_path):
    def edit(ds, phase, number):
        ds.TemporalPositionIdentifier = phase + 1

    write_phases(tmp_path, edit, lost=[(2, 1), (2, 2), (2, 3), (2, 4)])
    assert len(usable(tmp_path)) == 2
    [problem] = [item.problem for item in list_series(tmp_path) if item.problem]
    assert "lacks 4 of 5 slices" in problem


def test_a_slice_that_one_b_value_and_direction_lacks(tmp_path):
    def edit(ds, phase, number):
        ds.DiffusionBValue = (0.0, 900.0, 900.0, 900.0)[phase]
        ds.DiffusionGradientOrientation = list(np.eye(4)[phase][1:])

    write_phases(tmp_path, edit, phases=4, lost=[(2, 3)])
    assert len(usable(tmp_path)) == 3
    [problem] = [item.problem for item in list_series(tmp_path) if item.problem]
    assert "b-value-900" in problem


def test_a_cine_that_lacks_an_image_is_refused(tmp_path):
    def edit(ds, phase, number):
        ds.TriggerTime = f"{phase * (40 + 1.7 * number):.1f}"

    write_phases(tmp_path, edit, phases=6, lost=[(3, 2)])
    with pytest.raises(VolumeError, match="6 images at most positions but 5"):
        load_volume(tmp_path)


def test_a_real_dynamic_series_that_lacks_a_slice(data_dir):
    found = list_series(data_dir / "format_faults/dynmissing")
    assert [item.problem is None for item in found].count(True) == 2
    [problem] = [item.problem for item in found if item.problem]
    assert "time-point-3" in problem
    assert "(-20, -15, 45)" in problem


def test_interleaved_echoes_that_lost_the_last_slice_are_not_mixed(tmp_path):
    def edit(ds, index):
        ds.EchoTime = ("5", "80")[index % 2]

    write_series(tmp_path, ramp(slices=11), distance=1.5, edit=edit, modality="MR")
    found = usable(tmp_path)
    assert [item.image.geometry.shape[2] for item in found] == [6, 5]
    assert "5 slices" in found[1].notes[0]


def test_one_damaged_volume_leaves_the_others(tmp_path):
    """A displaced slice in one time point."""

    def edit(ds, phase, number):
        ds.TemporalPositionIdentifier = phase + 1
        if (phase, number) == (1, 2):
            ds.ImagePositionPatient = [-4, -20, 36]

    values = write_phases(tmp_path, edit)
    check(tmp_path, values[[0, 2]], ["time-point-1", "time-point-3"])
    [problem] = [item.problem for item in list_series(tmp_path) if item.problem]
    assert "time-point-2" in problem
    assert "not a straight stack" in problem


# --- enhanced files


def write_enhanced(path, describe, *, phases=PHASES, slices=SLICES):
    """Write an enhanced MR; ``describe(group, content, phase, slice)`` tells volumes apart."""
    values = ramp(slices=phases * slices)
    [plain] = write_series(path.parent / "plain", values[:1], modality="MR", intercept=0.0)
    ds = dcmread(plain)
    plain.unlink()
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber"):
        delattr(ds, keyword)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    ds.NumberOfFrames = len(values)

    def item(**entries):
        made = Dataset()
        for keyword, value in entries.items():
            setattr(made, keyword, value)
        return made

    ds.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=["0.8", "0.6"], SliceThickness="3")],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        )
    ]
    groups = []
    for index in range(len(values)):
        phase, number = divmod(index, slices)
        content = Dataset()
        group = item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 3.0 * number])],
            FrameContentSequence=[content],
        )
        describe(group, content, phase, number)
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    ds.PixelData = np.ascontiguousarray(values, "<i2").tobytes()
    ds.save_as(path)
    return values.reshape(phases, slices, *values.shape[1:])


def test_dimension_indices_tell_frames_apart(tmp_path):
    def describe(group, content, phase, number):
        content.DimensionIndexValues = [1, number + 1, phase + 1]

    values = write_enhanced(tmp_path / "e.dcm", describe)
    check(tmp_path, values, ["dimension-3-1", "dimension-3-2", "dimension-3-3"])


def test_the_components_of_an_enhanced_image(tmp_path):
    def describe(group, content, phase, number):
        kind = Dataset()
        kind.ComplexImageComponent = ("MAGNITUDE", "REAL", "IMAGINARY")[phase]
        group.MRImageFrameTypeSequence = [kind]

    values = write_enhanced(tmp_path / "e.dcm", describe)
    check(tmp_path, values, ["MAGNITUDE", "REAL", "IMAGINARY"])


def test_spin_labelling_of_an_enhanced_image(tmp_path):
    def describe(group, content, phase, number):
        context = Dataset()
        context.ASLContext = ("CONTROL", "LABEL", "M_ZERO_SCAN")[phase]
        group.MRArterialSpinLabelingSequence = [context]

    values = write_enhanced(tmp_path / "e.dcm", describe)
    check(tmp_path, values, ["CONTROL", "LABEL", "M_ZERO_SCAN"])


def test_velocities_of_an_enhanced_image(tmp_path):
    def describe(group, content, phase, number):
        velocity = Dataset()
        velocity.VelocityEncodingMaximumValue = 50.0 * phase
        group.MRVelocityEncodingSequence = [velocity]

    values = write_enhanced(tmp_path / "e.dcm", describe)
    check(tmp_path, values, ["velocity-0", "velocity-50", "velocity-100"])


def test_cardiac_phases_of_an_enhanced_image(tmp_path):
    def describe(group, content, phase, number):
        cardiac = Dataset()
        cardiac.NominalPercentageOfCardiacPhase = 10.0 * phase
        group.CardiacSynchronizationSequence = [cardiac]

    values = write_enhanced(tmp_path / "e.dcm", describe)
    check(tmp_path, values, ["cardiac-phase-0", "cardiac-phase-10", "cardiac-phase-20"])


def test_frames_that_nothing_tells_apart_are_refused(tmp_path):
    write_enhanced(tmp_path / "e.dcm", lambda *args: None)
    with pytest.raises(VolumeError, match="3 images at each"):
        load_volume(tmp_path)


@pytest.fixture(autouse=True)
def _quiet_pydicom():
    with config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("known", [True, False])
def test_scales_in_the_frames_of_an_enhanced_image_are_noted(tmp_path, known):
    """Those of Philips are in a private sequence, which other programs store as bytes."""

    def describe(group, content, phase, number):
        inner, rescaling, world = Dataset(), Dataset(), Dataset()
        block = inner.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", 0.25)
        group.add_new(0x20050014, "LO", "Philips MR Imaging DD 005")
        group.add_new(0x2005140F, *(("SQ", [inner]) if known else ("UN", b"\0\0")))
        rescaling.RescaleSlope, rescaling.RescaleIntercept = "2", "10"
        group.PixelValueTransformationSequence = [rescaling]
        world.RealWorldValueSlope, world.RealWorldValueIntercept = 0.5, 0.0
        group.RealWorldValueMappingSequence = [world]

    values = write_enhanced(tmp_path / "e.dcm", describe, phases=1)[0]
    (item,) = list_series(tmp_path)
    found = load_volume(item)
    data = found.geometry.to_source(found.data).transpose(2, 1, 0)
    np.testing.assert_array_equal(data, 2 * values + 10)
    said = " ".join(item.notes)
    assert "real-world" in said
    assert ("2005,100E" in said) == known
