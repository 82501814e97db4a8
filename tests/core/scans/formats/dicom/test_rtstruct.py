"""DICOM structure sets: contours filled on the slices of a scan."""

import re
import warnings

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from dicom_files import AXIAL, ramp, write_series
from napari_sslseg.core import (
    list_series,
    load_labels,
    load_volume,
    read_segment_names,
    save_labels,
)
from napari_sslseg.core.common.errors import GeometryError, ScanWarning, VolumeError
from napari_sslseg.core.scans.classes.read import read_segments
from napari_sslseg.core.scans.formats.dicom.labels.polygons import Polygon, fill_polygons
from napari_sslseg.core.scans.formats.dicom.labels.resampled import labels_to_planes

OBLIQUE = (0.6, 0.8, 0.0, -0.64, 0.48, 0.6)
ORIGIN, SPACING, DISTANCE = (-10.0, -20.0, 30.0), (0.8, 0.6), 2.5


def place(points, slice_index, orientation):
    """Contour data of points given as (row, column) of a slice."""
    iop = np.array(orientation)
    normal = np.cross(iop[:3], iop[3:])
    start = np.array(ORIGIN) + slice_index * DISTANCE * normal
    return [
        start + column * SPACING[1] * iop[:3] + row * SPACING[0] * iop[3:] for row, column in points
    ]


def box(low_row, low_column, high_row, high_column):
    return [
        (low_row, low_column),
        (low_row, high_column),
        (high_row, high_column),
        (high_row, low_column),
    ]


def write_structures(path, regions, kind="CLOSED_PLANAR"):
    """Write a structure set; regions are (number, name, list of points in LPS mm)."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID
    ds.Modality = "RTSTRUCT"
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    for number, name, contours in regions:
        region, drawn = Dataset(), Dataset()
        region.ROINumber, region.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType = kind
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.6f}" for value in np.ravel(points)]
            drawn.ContourSequence.append(contour)
        ds.StructureSetROISequence.append(region)
        ds.ROIContourSequence.append(drawn)
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(params=[AXIAL, OBLIQUE], ids=["axial", "oblique"])
def scan(request, tmp_path):
    """A volume of 6 slices, 10 rows and 12 columns, and the orientation of its slices."""
    write_series(
        tmp_path / "series",
        ramp(6, 10, 12),
        orientation=request.param,
        origin=ORIGIN,
        spacing=SPACING,
        distance=DISTANCE,
    )
    volume = load_volume(tmp_path / "series")
    return volume, request.param


def on_slices(volume, labels):
    """Return labels as slice, row, column of the files."""
    return volume.geometry.to_source(labels.data).transpose(2, 1, 0)


def test_a_square_with_a_hole_fills_the_voxels_inside(tmp_path, scan):
    volume, orientation = scan
    outer, hole = box(0.5, 1.5, 7.5, 9.5), box(2.5, 3.5, 4.5, 6.5)
    path = write_structures(
        tmp_path / "rt.dcm",
        [(7, "ring", [place(outer, 2, orientation), place(hole, 2, orientation)])],
    )
    wanted = np.zeros((6, 10, 12), int)
    wanted[2, 1:8, 2:10] = 1
    wanted[2, 3:5, 4:7] = 0
    labels = load_labels(path, like=volume)
    np.testing.assert_array_equal(on_slices(volume, labels), wanted)
    assert labels.geometry.matches(volume.geometry)
    assert read_segment_names(path) == {1: "ring"}


def test_names_of_structures_name_no_person(tmp_path):
    names = {
        "GTV Mueller": "GTV",
        "mueller_liver": "liver",
        "Lung left": "Lung left",
        "PTV_Finkel_1": "PTV_1",
        "node 3": "node 3",
    }
    regions = [(number, name, []) for number, name in enumerate(names, 1)]
    path = write_structures(tmp_path / "rt.dcm", regions)
    ds = dcmread(path)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.ReviewerName = "Müller^Lung", "Finkel^B"
    ds.save_as(path)
    found = [segment.name for segment in read_segments(path)]
    assert [re.sub("_+", "_", name) for name in found] == list(names.values())


def test_voxels_on_a_contour_belong_to_the_structure(tmp_path, scan):
    """Contours along the centres of voxels, as tools that trace masks write them."""
    volume, orientation = scan
    outer, hole = box(1, 1, 8, 9), box(3, 3, 6, 7)
    path = write_structures(
        tmp_path / "rt.dcm",
        [(1, "ring", [place(outer, 0, orientation), place(hole, 0, orientation)])],
    )
    wanted = np.zeros((6, 10, 12), int)
    wanted[0, 1:9, 1:10] = 1
    wanted[0, 4:6, 4:7] = 0
    np.testing.assert_array_equal(on_slices(volume, load_labels(path, like=volume)), wanted)


def test_contours_between_slices_are_combined_on_the_nearest(tmp_path, scan):
    volume, orientation = scan
    contours = [
        place(box(0.5, 0.5, 4.5, 4.5), 2.8, orientation),
        place(box(0.5, 0.5, 4.5, 6.5), 3.2, orientation),
        place(box(5.5, 5.5, 7.5, 7.5), 5.4, orientation),
    ]
    path = write_structures(tmp_path / "rt.dcm", [(1, "part", contours)])
    wanted = np.zeros((6, 10, 12), int)
    wanted[3, 1:5, 1:7] = 1
    wanted[5, 6:8, 6:8] = 1
    with pytest.warns(ScanWarning, match="between the slices"):
        labels = load_labels(path, like=volume)
    np.testing.assert_array_equal(on_slices(volume, labels), wanted)


def test_contours_in_the_middle_of_slices_go_to_different_slices(tmp_path, scan):
    volume, orientation = scan
    square = box(0.5, 0.5, 4.5, 4.5)
    contours = [place(square, number + 0.5, orientation) for number in range(5)]
    path = write_structures(tmp_path / "rt.dcm", [(1, "part", contours)])
    with pytest.warns(ScanWarning, match="between the slices.*'part' \\(5\\)"):
        found = on_slices(volume, load_labels(path, like=volume))
    assert np.count_nonzero(found, axis=(1, 2)).tolist() == [0, 16, 16, 16, 16, 16]


@pytest.mark.parametrize(("slices", "lacking"), [((0, 2, 5), 3), ((0, 2, 3), 0), ((1, 4), 0)])
def test_slices_without_contours_between_others_are_named(tmp_path, scan, slices, lacking):
    volume, orientation = scan
    square = box(0.5, 0.5, 4.5, 4.5)
    contours = [place(square, number, orientation) for number in slices]
    path = write_structures(tmp_path / "rt.dcm", [(1, "part", contours)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_labels(path, like=volume)
    said = " ".join(str(one.message) for one in caught)
    assert (f"'part' ({lacking})" in said) == bool(lacking)


def test_a_structure_set_without_contours_warns(tmp_path, scan):
    path = write_structures(tmp_path / "rt.dcm", [(1, "part", [])])
    with pytest.warns(ScanWarning, match="no contours"):
        assert not load_labels(path, like=scan[0]).data.any()


def test_structures_that_share_a_number_are_refused(tmp_path, scan):
    """Their contours refer to the number, and would be merged under the last name."""
    volume, orientation = scan
    square = place(box(1, 1, 3, 3), 1, orientation)
    path = write_structures(tmp_path / "rt.dcm", [(4, "liver", [square]), (4, "spleen", [square])])
    for read in (read_segment_names, lambda path: load_labels(path, like=volume)):
        with pytest.raises(VolumeError, match=r"number 4.*'liver', 'spleen'"):
            read(path)


@pytest.mark.filterwarnings("ignore:The value for the data element")
def test_a_contour_of_more_than_64_kilobytes_is_read(tmp_path, scan):
    """Explicit transfer syntaxes store it without its type."""
    volume, orientation = scan
    angles = np.linspace(0, 2 * np.pi, 5000)
    circle = place(
        np.stack([4.5 + 3 * np.cos(angles), 5.5 + 4 * np.sin(angles)], 1), 2, orientation
    )
    path = write_structures(tmp_path / "rt.dcm", [(1, "part", [circle])])
    row, column = np.mgrid[:10, :12]
    wanted = ((row - 4.5) / 3) ** 2 + ((column - 5.5) / 4) ** 2 < 1
    found = on_slices(volume, load_labels(path, like=volume))
    np.testing.assert_array_equal(found[2], wanted)
    assert np.count_nonzero(found) == np.count_nonzero(wanted)


def test_contours_of_an_unknown_type_are_not_called_open(tmp_path, scan):
    volume, orientation = scan
    square = place(box(0.5, 0.5, 4.5, 4.5), 1, orientation)
    path = write_structures(tmp_path / "rt.dcm", [(1, "part", [square])], kind="CLOSED")
    with pytest.warns(ScanWarning, match="without a type that DICOM defines.*'part' \\(1\\)"):
        assert not load_labels(path, like=volume).data.any()


def test_values_follow_the_numbers_and_smaller_structures_take_precedence(tmp_path, scan):
    volume, orientation = scan
    path = write_structures(
        tmp_path / "rt.dcm",
        [
            (30, "body", [place(box(-3, -3, 9.5, 11.5), 1, orientation)]),
            (10, "liver", [place(box(0.5, 0.5, 4.5, 4.5), 1, orientation)]),
            (20, "empty", []),
        ],
    )
    with pytest.warns(ScanWarning, match="overlap in 16 voxels"):
        labels = load_labels(path, like=volume)
    assert read_segment_names(path) == {1: "liver", 2: "empty", 3: "body"}
    wanted = np.zeros((6, 10, 12), int)
    wanted[1] = 3  # the contour leaves the image at the top and at the left
    wanted[1, 1:5, 1:5] = 1
    np.testing.assert_array_equal(on_slices(volume, labels), wanted)


def test_points_and_open_contours_are_ignored_with_a_warning(tmp_path, scan):
    volume, orientation = scan
    path = write_structures(
        tmp_path / "rt.dcm", [(1, "line", [place(box(1, 1, 3, 3), 1, orientation)])], "OPEN_PLANAR"
    )
    with pytest.warns(ScanWarning, match="enclose no area"):
        labels = load_labels(path, like=volume)
    assert not labels.data.any()


def test_contours_outside_the_scan_or_across_slices_are_refused(tmp_path, scan):
    volume, orientation = scan

    def refused(points, why):
        path = write_structures(tmp_path / "rt.dcm", [(1, "part", [points])])
        with pytest.raises(GeometryError, match=why):
            load_labels(path, like=volume)

    square = box(1, 1, 5, 5)
    refused(place(square, 5.8, orientation), "outside")
    refused(place(square, -0.8, orientation), "outside")
    refused(place(box(40, 40, 44, 44), 2, orientation), "outside")
    across = [*place(square[:2], 2, orientation), *place(square[2:], 2.8, orientation)]
    refused(across, "crosses")


def test_a_structure_outside_the_scan_does_not_hide_the_others(tmp_path, scan):
    volume, orientation = scan
    liver = place(box(0.5, 0.5, 4.5, 4.5), 1, orientation)
    couch = [place(box(40, 1, 44, 9), 1, orientation), place(box(1, 1, 5, 5), 7, orientation)]
    path = write_structures(tmp_path / "rt.dcm", [(1, "liver", [liver]), (2, "couch", couch)])
    with pytest.warns(ScanWarning) as caught:
        labels = load_labels(path, like=volume)
    assert np.count_nonzero(labels.data == 1) == 16
    said = " ".join(str(one.message) for one in caught)
    assert "outside the images were left out: 'couch' (2)" in said
    assert "no voxel is labelled 'couch'" in said


def test_nested_and_separate_contours_are_filled_by_parity():
    """Circles in circles, compared with the number of circles around each pixel."""
    rng = np.random.default_rng(1)
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rows, columns = np.mgrid[:60, :60]
    for _ in range(30):
        chosen = []
        for centre, radius in zip(rng.uniform(5, 55, (40, 2)), rng.uniform(2, 25, 40), strict=True):
            apart = [np.hypot(*(centre - c)) for c, _ in chosen]
            if all(
                d > radius + r + 1 or d < abs(radius - r) - 1
                for d, (_, r) in zip(apart, chosen, strict=True)
            ):
                chosen.append((centre, radius))
        depth, near = np.zeros((60, 60), int), np.zeros((60, 60), bool)
        for centre, radius in chosen:
            distance = np.hypot(rows - centre[0], columns - centre[1])
            depth += distance < radius
            near |= np.abs(distance - radius) < 0.2
        filled = fill_polygons([Polygon(c + r * circle) for c, r in chosen], (60, 60))
        found = np.zeros((60, 60), bool)
        found[filled.first, filled.second] = True
        np.testing.assert_array_equal(found[~near], (depth % 2 == 1)[~near])
        assert not filled.joined
        assert not filled.repeated


def test_reading_contours_requires_the_scan(tmp_path):
    path = write_structures(tmp_path / "rt.dcm", [(1, "part", [place(box(1, 1, 3, 3), 1, AXIAL)])])
    with pytest.raises(GeometryError, match="pass like="):
        load_labels(path)


def test_damaged_contours_are_refused(tmp_path, scan):
    volume, orientation = scan
    points = np.ravel(place(box(1, 1, 3, 3), 1, orientation))
    for numbers in (points[:-1], [*points[:-1], np.nan]):
        path = write_structures(tmp_path / "rt.dcm", [(1, "part", [numbers])])
        with pytest.raises(VolumeError, match="without valid points"):
            load_labels(path, like=volume)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_contour_without_area_does_not_hide_the_others(tmp_path, scan, count):
    volume, orientation = scan
    square = place(box(0.5, 0.5, 4.5, 4.5), 1, orientation)
    regions = [(1, "liver", [square[:count], square]), (2, "lymph node", [square[:count]])]
    path = write_structures(tmp_path / "rt.dcm", regions)
    with pytest.warns(ScanWarning) as caught:
        labels = load_labels(path, like=volume)
    assert np.count_nonzero(labels.data == 1) == 16
    said = " ".join(str(one.message) for one in caught)
    assert "'liver' (1), 'lymph node' (1)" in said
    assert "no voxel is labelled 'lymph node'" in said


def turned(points):
    return [*points[2:], *points[:2]]


@pytest.mark.parametrize(
    "again",
    [list, turned, lambda p: p[::-1], lambda p: turned(p[::-1]), lambda p: [*p, p[0]]],
    ids=["same", "other start", "other direction", "both", "closed"],
)
@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_a_contour_that_occurs_twice_counts_once(tmp_path, scan, again, kind):
    volume, orientation = scan
    square = place(box(0.5, 0.5, 4.5, 4.5), 1, orientation)
    path = write_structures(tmp_path / "rt.dcm", [(1, "liver", [square, again(square)])], kind)
    with pytest.warns(ScanWarning, match=r"more than once.*'liver' \(1\)"):
        labels = load_labels(path, like=volume)
    assert np.count_nonzero(labels.data == 1) == 16


def test_a_contour_of_two_laps_is_filled(tmp_path, scan):
    volume, orientation = scan
    square = place(box(0.5, 0.5, 4.5, 4.5), 1, orientation)
    path = write_structures(tmp_path / "rt.dcm", [(1, "liver", [square * 2])])
    assert np.count_nonzero(load_labels(path, like=volume).data) == 16


def test_contours_that_partly_overlap_are_joined(tmp_path, scan):
    volume, orientation = scan
    parts = [box(0.5, 0.5, 5.5, 5.5), box(3.5, 3.5, 8.5, 8.5)]
    contours = [place(part, 1, orientation) for part in parts]
    path = write_structures(tmp_path / "rt.dcm", [(1, "liver", contours)])
    with pytest.warns(ScanWarning, match=r"partly overlap.*'liver' \(2\)"):
        labels = load_labels(path, like=volume)
    wanted = np.zeros((10, 12), int)
    wanted[1:6, 1:6] = wanted[4:9, 4:9] = 1
    np.testing.assert_array_equal(on_slices(volume, labels)[1], wanted)
    # The standard defines exclusive or for this type.
    path = write_structures(tmp_path / "rt.dcm", [(1, "liver", contours)], "CLOSEDPLANAR_XOR")
    wanted[4:6, 4:6] = 0
    np.testing.assert_array_equal(on_slices(volume, load_labels(path, like=volume))[1], wanted)


def test_a_contour_drawn_twice_with_small_differences_is_no_hole(tmp_path, scan):
    volume, orientation = scan
    parts = [box(0.5, 0.5, 7.5, 8.5), box(0.9, 0.3, 7.2, 8.8)]
    path = write_structures(
        tmp_path / "rt.dcm", [(1, "liver", [place(part, 1, orientation) for part in parts])]
    )
    with pytest.warns(ScanWarning, match="partly overlap"):
        labels = load_labels(path, like=volume)
    assert np.count_nonzero(labels.data) == 7 * 8


def test_holes_with_islands_and_holes_that_touch_the_rim_stay(tmp_path, scan):
    volume, orientation = scan
    outer, hole, island = box(0.5, 0.5, 8.5, 10.5), box(1.5, 1.5, 7.5, 9.5), box(3.5, 3.5, 5.5, 6.5)
    # One edge of the hole lies on the rim, and rounding puts a corner beyond it.
    touching = [(1.5, 0.49), (1.5, 4.5), (7.5, 4.5), (7.5, 0.5)]
    contours = [place(part, 1, orientation) for part in (hole, island, outer)]
    contours += [place(part, 3, orientation) for part in (touching, outer)]
    path = write_structures(tmp_path / "rt.dcm", [(1, "wall", contours)])
    wanted = np.zeros((6, 10, 12), int)
    wanted[[1, 3], 1:9, 1:11] = 1
    wanted[1, 2:8, 2:10] = 0
    wanted[1, 4:6, 4:7] = 1
    wanted[3, 2:8, 1:5] = 0
    np.testing.assert_array_equal(on_slices(volume, load_labels(path, like=volume)), wanted)


def test_a_keyhole_is_a_hole(tmp_path, scan):
    volume, orientation = scan
    outer, hole = box(0.5, 0.5, 8.5, 10.5), box(2.5, 2.5, 6.5, 7.5)
    path = write_structures(
        tmp_path / "rt.dcm",
        [(1, "ring", [place([*outer, outer[0], *hole, hole[0]], 1, orientation)])],
    )
    wanted = np.zeros((10, 12), int)
    wanted[1:9, 1:11] = 1
    wanted[3:7, 3:8] = 0
    np.testing.assert_array_equal(on_slices(volume, load_labels(path, like=volume))[1], wanted)


def test_structures_without_a_voxel_are_named(tmp_path, scan):
    """Too small for a voxel centre, or under a structure of the same shape."""
    volume, orientation = scan
    square = place(box(0.5, 0.5, 4.5, 4.5), 1, orientation)
    regions = [
        (1, "tiny", [place(box(6.2, 6.2, 6.8, 6.8), 1, orientation)]),
        (2, "liver", [square]),
        (3, "copy", [square]),
    ]
    path = write_structures(tmp_path / "rt.dcm", regions)
    with pytest.warns(ScanWarning) as caught:
        labels = load_labels(path, like=volume)
    assert set(np.unique(labels.data)) == {0, 3}
    said = [str(one.message) for one in caught]
    assert any("no voxel is labelled 'tiny'" in one for one in said)
    assert any("no label left" in one and "'liver'" in one for one in said)
    assert any("'liver' (16)" in one for one in said)


@pytest.mark.parametrize(
    ("file", "voxels", "said"),
    [
        ("r_dup", {1: 60}, "more than once"),
        ("r_tiny", {2: 60}, "no voxel is labelled 'tiny'"),
        ("r_2pt", {1: 60}, "fewer than 3 points"),
        ("r_partover", {1: 102}, "partly overlap"),
    ],
)
def test_faulty_contours_of_real_systems(data_dir, file, voxels, said):
    folder = data_dir / "format_faults/seg"
    volume = load_volume(folder / "ct")
    with pytest.warns(ScanWarning) as caught:
        labels = load_labels(folder / f"{file}.dcm", like=volume).data
    found = {int(v): int(np.count_nonzero(labels == v)) for v in np.unique(labels) if v}
    assert found == voxels
    assert any(said in str(one.message) for one in caught)


def test_contours_of_rt_utils_enclose_their_area(data_dir):
    """Compare area and centre by the shoelace formula with the voxels."""
    from pydicom import dcmread

    folder = data_dir / "dicom/rt_utils/tests/mock_data"
    series = next(s for s in list_series(folder) if s.problem is None and len(s.files) == 2)
    volume = load_volume(series)
    labels = load_labels(folder / "rt.dcm", like=volume)
    contours = dcmread(folder / "rt.dcm").ROIContourSequence[0].ContourSequence
    parts = [np.array(c.ContourData, float).reshape(-1, 3) for c in contours]
    area, moment = 0.0, np.zeros(2)
    for sign, points in zip((1, -1), parts, strict=True):  # a square and the hole in it
        x, y = points[:, 0], points[:, 1]
        cross = x * np.roll(y, -1) - np.roll(x, -1) * y
        sign *= np.sign(cross.sum())
        area += sign * cross.sum() / 2
        moment += sign * ((points + np.roll(points, -1, axis=0))[:, :2] * cross[:, None]).sum(0) / 6
    affine = volume.geometry.display_affine
    voxels = np.argwhere(labels.data) @ affine[:3, :3].T + affine[:3, 3]
    pixel = volume.spacing[1] * volume.spacing[2]
    assert len(voxels) * pixel == pytest.approx(area, rel=0.03)
    centre = voxels.mean(0)[:2] * [-1, -1]
    np.testing.assert_allclose(centre, moment / area, atol=0.5 * volume.spacing[1])
    assert set(np.unique((voxels[:, 2]).round(3))) == {p[0, 2].round(3) for p in parts}


THIN_THEN_THICK = [(-10.0, -20.0, z) for z in (*range(11), 12.5, 15, 17.5)]
TILTED = [(-10.0, -20.0 + 0.9 * z, 2.5 * z) for z in range(8)]
BOTH = [(-10.0, -20.0 + 0.36 * z, z) for *_, z in THIN_THEN_THICK]


def write_uneven(folder, places):
    """A series whose slice thickness equals the distance to the slice before."""

    def edit(ds, index):
        ds.SliceThickness = f"{places[max(index, 1)][2] - places[max(index, 1) - 1][2]:g}"

    values = ramp(len(places), 30, 32)
    write_series(folder, values, places=places, spacing=SPACING, edit=edit)
    with pytest.warns(ScanWarning, match=r"resampled|shifted"):
        return load_volume(folder)


@pytest.mark.parametrize("places", [THIN_THEN_THICK, TILTED, BOTH], ids=["thick", "tilt", "both"])
def test_contours_on_a_resampled_scan_fill_every_slice(tmp_path, places):
    """A prism drawn on all acquired planes is complete on the regular grid."""
    volume = write_uneven(tmp_path / "series", places)
    low, high = (-6.1, -10.7), (1.2, -2.3)  # x and y in LPS mm
    corners = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
    contours = [[(x, y, z) for x, y in corners] for *_, z in places]
    path = write_structures(tmp_path / "rt.dcm", [(1, "prism", contours)])
    labels = load_labels(path, like=volume).data

    affine = volume.geometry.display_affine
    voxels = np.argwhere(np.ones(labels.shape)) @ affine[:3, :3].T + affine[:3, 3]
    x, y = voxels[:, 0].reshape(labels.shape) * -1, voxels[:, 1].reshape(labels.shape) * -1
    # A tilted plane deviates by up to half a pixel from the voxels that represent it.
    near = 0.41 if places is not THIN_THEN_THICK else 0.0
    # Between two tilted planes that are further apart, the nearer one decides.
    near += 0.36 * 1.25 if places is BOTH else 0.0
    for wanted, grown in ((1, -near), (0, near)):
        inside = (x > low[0]) & (x < high[0]) & (y > low[1] - grown) & (y < high[1] + grown)
        region = inside if wanted else ~inside
        assert region.any(axis=(1, 2)).all()
        np.testing.assert_array_equal(labels[region], wanted)


@pytest.mark.parametrize("places", [THIN_THEN_THICK, TILTED], ids=["thick", "tilt"])
def test_contours_and_a_segmentation_of_one_shape_give_the_same_labels(tmp_path, places):
    volume = write_uneven(tmp_path / "series", places)

    def drawn(at):
        """Corners of rows 5 to 11 and columns 7 to 20 of the plane."""
        spots = [(r, c) for r, c in ((4.5, 6.5), (4.5, 20.5), (11.5, 20.5), (11.5, 6.5))]
        return [(at[0] + 0.6 * c, at[1] + 0.8 * r, at[2]) for r, c in spots]

    path = write_structures(tmp_path / "rt.dcm", [(1, "box", [drawn(at) for at in places])])
    filled = load_labels(path, like=volume)
    masks = labels_to_planes(volume.geometry.to_source(filled.data), volume.header)
    wanted = np.zeros_like(masks)
    wanted[:, 5:12, 7:21] = 1
    np.testing.assert_array_equal(masks, wanted)
    segmentation = save_labels(filled.data, tmp_path / "seg.dcm", like=volume)
    np.testing.assert_array_equal(load_labels(segmentation, like=volume).data, filled.data)


def test_contours_outside_or_across_planes_of_a_resampled_scan_are_refused(tmp_path):
    volume = write_uneven(tmp_path / "series", THIN_THEN_THICK)

    def box_at(*heights):
        return [
            (x, y, z) for (x, y), z in zip(((-6, -10), (1, -10), (1, -3)), heights, strict=True)
        ]

    for heights, why in (
        ((-0.7,) * 3, "outside"),
        ((18.9,) * 3, "outside"),
        ((5, 5, 6), "crosses"),
        ((12.5, 12.5, 15), "crosses"),
    ):
        path = write_structures(tmp_path / "rt.dcm", [(1, "part", [box_at(*heights)])])
        with pytest.raises(GeometryError, match=why):
            load_labels(path, like=volume)
    path = write_structures(tmp_path / "rt.dcm", [(1, "part", [box_at(18.6, 18.6, 18.6)])])
    assert load_labels(path, like=volume).data.any()


@pytest.mark.parametrize("off", [0.05, -0.1, 0.3, -0.45, 0.49])
@pytest.mark.parametrize("slices", [(2,), (1, 2, 3), (1, 3)])
def test_a_hole_off_the_plane_of_its_contour_is_a_hole(tmp_path, scan, off, slices):
    volume, orientation = scan
    outer, hole, island = box(0.5, 1.5, 8.5, 10.5), box(2.5, 3.5, 6.5, 8.5), box(3.5, 4.5, 5.5, 7.5)
    contours = [place(outer, number, orientation) for number in slices]
    contours += [place(hole, slices[0] + off, orientation)]
    contours += [place(island, slices[0] + 0.8 * off, orientation)]
    # A contour around both, on its own slices.
    body = [place(box(0.5, 0.5, 9.4, 11.4), number, orientation) for number in range(5)]
    path = write_structures(tmp_path / "rt.dcm", [(1, "ring", contours), (2, "body", body)])
    wanted = np.zeros((6, 10, 12), int)
    wanted[list(slices), 1:9, 2:11] = 1
    wanted[slices[0], 3:7, 4:9] = 0
    wanted[slices[0], 4:6, 5:8] = 1
    with pytest.warns(ScanWarning, match="taken as holes of it: 'ring' \\(2\\)"):
        labels = load_labels(path, like=volume)
    np.testing.assert_array_equal(on_slices(volume, labels) == 1, wanted == 1)


def test_contours_on_finer_slices_are_no_holes(tmp_path, scan):
    """A tapering structure drawn on slices of 0.4 times the distance, beside a small one."""
    volume, orientation = scan
    cone = [box(0.5 + n / 3, 0.5 + n / 3, 9.4 - n / 3, 11.4 - n / 3) for n in range(12)]
    contours = [place(points, 0.4 * n, orientation) for n, points in enumerate(cone)]
    ball = [box(2.5, 3.5, 6.5, 8.5), box(1.5, 2.5, 7.5, 9.5), box(2.6, 3.6, 6.4, 8.4)]
    small = [place(points, 1.6 + 0.4 * n, orientation) for n, points in enumerate(ball)]
    path = write_structures(tmp_path / "rt.dcm", [(1, "cone", contours), (2, "ball", small)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        labels = on_slices(volume, load_labels(path, like=volume))
    assert not any("holes" in str(warning.message) for warning in caught)
    for number, image in enumerate(labels):
        rows, columns = np.nonzero(image)
        if len(rows):
            inside = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert inside.all(), number
    assert (labels[2, 2:8, 3:10] == 2).all()
