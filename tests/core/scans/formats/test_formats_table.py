"""Every file of the test data is read as by other libraries, or refused with a reason.

The test compares its results with docs/reference/formats.md, or writes it if UPDATE_DOCS=1.
"""

import os
import re
import warnings
from collections import defaultdict
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom import dcmread

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.formats.dispatch import is_dicom
from napari_sslseg.core.scans.formats.registry import METAIMAGE, NRRD, format_of, scan_suffixes
from napari_sslseg.core.scans.volume import load_volume
from paths import DOCS, INTERNAL, data_files

PAGE = DOCS / "reference" / "formats.md"
HEAD = """\
# Result for every file of the test data

Written by `tests/core/scans/formats/test_formats_table.py`, which loads all real scans of the tests
(they are not part of this project) and compares each affine with another library: nibabel for
NIfTI, SimpleITK for NRRD and MetaImage, and for DICOM the position and orientation in the header of
every slice. Files of one folder with the same result share a row; {count} files in all. Update this
page with
`UPDATE_DOCS=1 make test ARGS=tests/core/scans/formats/test_formats_table.py`.

| Files | Type | Voxels (mm) | Axes towards | Result |
| --- | --- | --- | --- | --- |
"""


def found_in(folder):
    """Yield the series of every folder, each folder by itself."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - {*INTERNAL})
        paths = [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
        for path in paths:
            if path.name.lower().endswith(scan_suffixes()):
                yield from list_series(path)
        # DICOMDIR files would yield their listed files a second time.
        dicom = [path for path in paths if is_dicom(path) and "DICOMDIR" not in path.name]
        yield from list_series(dicom)


def affine_elsewhere(item):
    """Return the affine of another library, in RAS+ mm."""
    if format_of(item.path) in (NRRD, METAIMAGE):
        import SimpleITK

        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(item.path))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            # One file has four axes in a space of three, which SimpleITK refuses.
            assert item.path.name == "test_simple4d_raw.nrrd"
            return np.diag([1.5, 1.5, 1, 1])
        axes = reader.GetDimension()
        spacing = np.array(reader.GetSpacing())
        matrix = np.array(reader.GetDirection()).reshape(axes, axes) * spacing
        affine = np.eye(4)
        n = min(axes, 3)
        affine[:n, :n], affine[:n, 3] = matrix[:n, :n], reader.GetOrigin()[:n]
        if axes == 2:  # one slice, 1 mm thick, upright on its axes
            unit = np.cross([*(matrix[:, 0] / spacing[0]), 0], [*(matrix[:, 1] / spacing[1]), 0])
            affine[:3, 2] = unit
        return np.diag([-1, -1, 1, 1]) @ affine
    return nib.load(item.path).affine


def check_place(item, volume):
    """Check that the volume has the affine that another library reads."""
    if not is_dicom(item.files[0]):
        np.testing.assert_allclose(volume.geometry.affine, affine_elsewhere(item), atol=1e-5)
        return
    if volume.header.layout.resampled:
        return  # the planes are not on the grid; compared in another test
    inverse = np.linalg.inv(volume.geometry.affine)
    for path in item.files:
        header = dcmread(path, stop_before_pixels=True)
        frames = header.get("PerFrameFunctionalGroupsSequence")
        if "MOSAIC" in header.get("ImageType", []):
            continue  # compared with nibabel in another test
        places = (
            [frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames]
            if frames
            else [header.ImagePositionPatient]
        )
        for place in places:
            ras = np.array(place, float) * (-1, -1, 1)
            index = inverse[:3, :3] @ ras + inverse[:3, 3]
            # The grid deviates from rounded positions by at most a seventh of a pixel.
            np.testing.assert_allclose(index[:2], 0, atol=0.15)
            off = abs(index[2] - round(index[2]))
            # Positions with one decimal deviate by up to 0.05 mm.
            assert off < 0.03 or off * np.linalg.norm(volume.geometry.affine[:3, 2]) < 0.051
            assert 0 <= round(index[2]) < volume.geometry.shape[2]


def described(item, data_dir):
    """Return type, voxel size, axes and result of one series."""
    kind = item.modality if item.modality in ("MR", "CT") else "MR"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            volume = load_volume(item, modality=kind)
            check_place(item, volume)
    except SslsegError as error:
        message = str(error)
        assert "\n" not in message
        reason = message.replace(str(data_dir) + "/", "").rstrip(".")
        for path in (*item.files, item.path):
            reason = reason.replace(str(path.relative_to(data_dir)), "")
        reason = re.sub(r"^The series \S+ in\s+", "", reason)
        return "", "", "", "refused: " + " ".join(reason.replace("|", "/").split())
    spacing = " × ".join(f"{value:.3g}" for value in volume.spacing)
    axes = volume.geometry.orientation + (", oblique" if volume.geometry.is_oblique else "")
    result = "loaded" + "".join(f"; {note}" for note in item.notes)
    if item.modality not in (None, "MR", "CT"):
        result = f"skipped as {item.modality}, loaded on request"
    return str(volume.data.dtype), spacing, axes, result


def rows(data_dir):
    groups = defaultdict(list)
    for item in found_in(data_dir):
        parent = item.files[0].parent.relative_to(data_dir)
        groups[parent, described(item, data_dir)].append(item)
    for (parent, cells), items in sorted(groups.items(), key=lambda entry: str(entry[0])):
        files = dict.fromkeys(path.name for item in items for path in item.files)
        if len(files) > 3:
            count = f"{len(files)} files, such as {min(files)}"
        else:
            count = ", ".join(sorted(files))
        volumes = f" ({len(items)} volumes)" if len(items) != len(files) and len(items) > 1 else ""
        yield f"{parent}/", f"{count}{volumes}", *cells


def table(data_dir):
    return ["| " + " | ".join([f"{a} {b}", *c]) + " |" for a, b, *c in rows(data_dir)]


def test_the_table_of_formats_is_up_to_date(data_dir):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lines = table(data_dir)
    assert sum("| loaded" in line for line in lines) > 20
    assert sum("| refused" in line for line in lines) > 20
    count = sum(
        path.is_file() and path.relative_to(data_dir).parts[0] not in INTERNAL
        for path in data_files(data_dir, "*")
    )
    page = HEAD.format(count=count) + "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(page, encoding="utf-8")
    written = PAGE.read_text(encoding="utf-8")
    if f"{count} files in all" in written:  # otherwise the data differ from those of the page
        assert written == page
