"""Sort DICOM files into series."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from napari_sslseg.core.common.errors import GeometryError, VolumeError
from napari_sslseg.core.scans.formats.dicom.datasets import silence_pydicom
from napari_sslseg.core.scans.formats.dicom.dicomdir import listed_files
from napari_sslseg.core.scans.formats.dicom.headers import Header, read_header
from napari_sslseg.core.scans.formats.dicom.identity.naming import (
    identity_doubt,
    nearest_plane,
    pseudonym,
    series_hash,
    series_title,
    shared_ids,
    short_hash,
    slug,
)
from napari_sslseg.core.scans.formats.dicom.identity.persons import without_persons
from napari_sslseg.core.scans.formats.dicom.phases.acquisitions import separate_acquisitions
from napari_sslseg.core.scans.formats.dicom.phases.derived import without_derived
from napari_sslseg.core.scans.formats.dicom.phases.split import Phase, split_phases
from napari_sslseg.core.scans.formats.dicom.planes.plane import ImagePlane
from napari_sslseg.core.scans.formats.dicom.planes.sorting import (
    LEAST_PLANES_OF_A_DIRECTION,
    group_by_direction,
    is_localizer_group,
    positions,
)
from napari_sslseg.core.scans.formats.dicom.volume import DicomVolume
from napari_sslseg.core.scans.series import Series

# Attributes with one value in a series, beside its UID.
IDENTITY = ("SeriesNumber", "StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate")
LOCALIZER = re.compile(r"locali[sz]er|scout|topogram|survey|pilot", re.IGNORECASE)
# Studies have such words in their names as well.
STUDY = re.compile(
    r"(?:scout|survey|pilot)[\W_]*(?:trial|stud|project|cohort|phase|patient)", re.IGNORECASE
)
# Some protocols use these words for stacks of many slices, or thin ones, which are scans
# nevertheless. Localizers are thick and have gaps.
MIN_SLICES = 10
MIN_THIN_SLICES = 5
THIN_MM = 5.0


def dicom_series(files: Sequence[Path]) -> list[Series]:
    """Sort DICOM files into volumes; a time series, or several directions, give several volumes.

    Parameters
    ----------
    files : sequence of Path
        Files in any order. A DICOMDIR is replaced by the files that it lists.

    Returns
    -------
    list of Series
        Sorted by name; the names do not depend on the folder or on other files. Series that are
        not volumes have a ``problem``.
    """
    with silence_pydicom():
        return _with_unique_names(_sorted_into_series(files))


def _sorted_into_series(files: Sequence[Path]) -> list[Series]:
    groups: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    found: list[Series] = []
    for header in _headers(files, found):
        if header.problem is None:
            groups[_key(header)].append(header)
        else:
            found.append(_problem(header, header.problem))
    shared = shared_ids(group[0] for group in groups.values())
    # One series may have several frames of reference; mosaics are volumes of their own anyway.
    same = 1 + len(IDENTITY)
    frames = Counter(_key(group[0])[:same] for group in groups.values() if not group[0].mosaic)
    for group, alone in _scattered(list(groups.values())):
        notes = []
        if frames[key := _key(group[0])[:same]] > 1 and key[0] and not alone:
            notes.append(
                f"its series has {frames[key]} frames of reference, whose images were not joined"
            )
        found += _volumes(group, alone, shared, notes)
    return found


def _scattered(groups: list[list[Header]]) -> Iterator[tuple[list[Header], str]]:
    """Join series of one image each whose UIDs differ although all else is equal.

    Some tools for anonymisation give each image a series, a frame of reference, or both, of its
    own.

    Yields
    ------
    tuple of list of Header and str
        The headers of a series, and what each of its images has alone; empty if nothing was joined.
    """
    single: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    for group in groups:
        first = group[0]
        if len(group) > 1 or len(first.planes) > 1 or first.mosaic:
            yield group, ""
            continue
        shared = ("PatientID", "SeriesNumber", "SeriesDescription", "Modality", "StudyDate")
        single[(*map(first.text, shared), str(first.path.parent))].append(first)
    for headers in single.values():
        # The first image gives name and patient, which must not depend on the names of files.
        headers.sort(key=lambda header: (header.text("SOPInstanceUID"), header.path.name))
        planes = [plane for header in headers for plane in header.planes]
        one_series = len({header.text("SeriesInstanceUID") for header in headers}) == 1
        # Series that really have one image number it 1.
        numbers = {header.text("InstanceNumber") for header in headers}
        numbered = numbers == {""} or len(numbers) == len(headers)
        few = len(headers) < LEAST_PLANES_OF_A_DIRECTION
        if few or len(group_by_direction(planes)) > 1 or not (one_series or numbered):
            yield from (([header], "") for header in headers)
        else:
            one_study = len({header.text("StudyInstanceUID") for header in headers}) == 1
            own = "frame of reference" if one_study else "study UID"
            yield headers, own if one_series else "series UID"


def _key(header: Header) -> tuple[str, ...]:
    """Return the attributes that all files of a volume share."""
    uid = header.text("SeriesInstanceUID")
    # Anonymisation may give everything one UID, and all patients one ID.
    key = [uid, *map(header.text, IDENTITY), header.text("FrameOfReferenceUID")]
    if not uid:
        # Without UID, the folder identifies a series.
        key += [header.text("SeriesDescription"), str(header.path.parent)]
    # Each mosaic is a separate volume.
    return (*key, str(header.path) if header.mosaic else "")


def _headers(files: Iterable[Path], missing: list[Series]) -> Iterator[Header]:
    """Yield the headers of files and of those in DICOMDIRs; report missing files of a DICOMDIR."""
    seen: set[Path] = set()
    for file in files:
        try:
            listed, lost = listed_files(file)
        except VolumeError as error:
            missing.append(_problem(Header(file, Dataset()), str(error)))
            continue
        if lost:
            problem = (
                f"{file} lists {len(lost)} missing files, such as {lost[0]}; copy the whole disc "
                "again."
            )
            missing.append(_problem(Header(file, read_header(file).dataset), problem))
        for path in listed:
            if path not in seen:
                seen.add(path)
                yield read_header(path)


def _volumes(
    headers: list[Header], alone: str, shared: Container[str], notes: list[str]
) -> list[Series]:
    """Return the volumes of one series, or the reason why it has none.

    ``alone`` names what each image has of its own, although they were joined. ``shared`` are
    patient IDs of several persons, and ``notes`` what was noted about all volumes.
    """
    files = [header.path for header in headers]
    path = files[0] if len(files) == 1 else Path(os.path.commonpath([f.parent for f in files]))
    # Descriptions may differ; the name must not depend on the names of files.
    first = _first_described(headers)
    place = path if path.name else path.absolute()  # The folder "." has no name.
    where = plain = f"The series {series_title(first)} in {place}"
    inverted = [h.text("PhotometricInterpretation") == "MONOCHROME1" for h in headers]
    if any(inverted):
        which = "its header" if all(inverted) else f"{sum(inverted)} of its {len(files)} headers"
        notes.append(
            f"by {which}, low values are bright (MONOCHROME1); values are used as stored, so "
            "other programs may show the opposite contrast"
        )
    if alone:
        where += f", joined from {len(files)} images with a {alone} of their own,"
        notes.append(
            f"each of its {len(files)} images has a {alone} of its own, as after anonymisation "
            "image by image; they were joined by their positions"
        )
    mark = series_hash(headers)
    groups = group_by_direction([plane for header in headers for plane in header.planes])
    strays = [plane for group in groups if is_localizer_group(group, groups) for plane in group]
    whole = [group for group in groups if not is_localizer_group(group, groups)]
    found: list[Series] = []
    if strays:
        problem = (
            f"{where} holds images in {len(groups)} directions or sizes, and {len(strays)} of "
            "them are single images like those of a localizer, not a volume; choose another series."
        )
        found.append(_problem(first, problem, path, _files(strays)))
    if len({nearest_plane(group) for group in whole}) < len(whole):
        notes.append(
            f"its series holds {len(whole)} stacks that differ in direction, image size or pixel "
            "size; each is a scan of its own"
        )
    for group in whole:
        if _is_localizer(first.text("SeriesDescription"), group):
            problem = f"{plain} is a localizer by its description; choose the scan itself."
            found.append(replace(_problem(first, problem, path, _files(group)), is_scan=False))
            continue
        ct = first.text("Modality") == "CT"
        group, more = without_derived(group)
        for phase, stack in _stacks(group, where, path, notes=[*notes, *more], ct=ct):
            # Texts of the manufacturer, into which people write as well.
            ending = ["_" + slug(without_persons(phase, first.dataset))] if phase else []
            if isinstance(stack, DicomVolume):
                # Volumes of one series may have descriptions of their own.
                own = set(stack.files)
                title = series_title(
                    _first_described(header for header in headers if header.path in own)
                )
                parts = [pseudonym(first), title, mark]
                parts += [nearest_plane(group)] if len(whole) > 1 else []
                series = Series(
                    name="_".join(parts),
                    subject=pseudonym(first),
                    path=path,
                    files=stack.files,
                    modality=slug(first.text("Modality")) or None,
                    image=stack,
                    subject_note=identity_doubt(first, shared),
                )
            else:
                problem, planes = stack
                series = _problem(first, problem, path, _files(planes))
            found.append(replace(series, name="".join([series.name, *ending])))
    return found


def _first_described(headers: Iterable[Header]) -> Header:
    return min(headers, key=lambda header: header.text("SeriesDescription"))


def _is_localizer(description: str, planes: Sequence[ImagePlane]) -> bool:
    """Return whether the description and the slices are those of a localizer."""
    if not LOCALIZER.search(STUDY.sub("", description)) or len(planes) >= MIN_SLICES:
        return False
    if len(planes) < MIN_THIN_SLICES:
        return True
    thickness = planes[0].thickness
    gaps = np.diff(np.sort(positions(planes)))
    return not thickness or thickness > THIN_MM or float(gaps.max()) > 1.2 * thickness


Problem = tuple[str, list[ImagePlane]]


def _stacks(
    planes: list[ImagePlane], where: str, path: Path, *, notes: Sequence[str], ct: bool
) -> Iterator[tuple[str, DicomVolume | Problem]]:
    """Split planes of one direction into volumes, each with the label of its phase."""
    try:
        phases = [replace(phase, notes=(*notes, *phase.notes)) for phase in split_phases(planes)]
    except VolumeError as error:  # a damaged image, which is compared with others
        yield "", (str(error), planes)
        return
    for phase in phases:
        here = where
        if phase.label and len(phases) > 1:
            here = f"The volume {phase.label} of {where[0].lower()}{where[1:]}"
        separate = not phase.problem or phase.is_double
        try:
            if phase.problem:
                raise VolumeError(f"{here} {phase.problem}")
            yield phase.label, DicomVolume(phase.planes, here, path, notes=phase.notes, ct=ct)
        except (VolumeError, GeometryError) as error:
            stacks = list(_separate_stacks(phase, here, path, ct=ct)) if separate else []
            if stacks:
                yield from stacks
            else:
                yield phase.label, (str(error), planes if len(phases) == 1 else phase.planes)


def _separate_stacks(
    phase: Phase, where: str, path: Path, *, ct: bool
) -> Iterator[tuple[str, DicomVolume]]:
    """Yield acquisitions in different places as stacks; nothing if one of them is no volume."""
    parts = separate_acquisitions(phase.planes)
    note = (
        f"its series holds {len(parts)} stacks in different places; they were told apart by their "
        "acquisition numbers"
    )
    stacks = []
    try:
        for number, group in parts.items():
            label = "_".join(filter(None, [phase.label, f"acquisition-{number or 'none'}"]))
            notes = (*phase.notes, note)
            stacks.append((label, DicomVolume(group, where, path, notes=notes, ct=ct)))
    except (VolumeError, GeometryError):
        return
    yield from stacks


def _files(planes: Iterable[ImagePlane]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(plane.path for plane in planes))


def _problem(
    header: Header,
    problem: str,
    path: Path | None = None,
    files: tuple[Path, ...] = (),
) -> Series:
    return Series(
        name="_".join([pseudonym(header), series_title(header)]),
        subject=pseudonym(header),
        path=path or header.path,
        files=files or (header.path,),
        modality=slug(header.text("Modality")) or None,
        problem=problem,
        is_scan=header.is_scan,
    )


def _with_unique_names(found: list[Series]) -> list[Series]:
    """Make names unique: by the first image, or else by a number."""
    counts: dict[str, int] = defaultdict(int)
    for item in found:
        counts[item.name] += 1
    named = []
    taken: set[str] = set()
    for item in sorted(found, key=lambda item: (item.problem is not None, str(item.path))):
        name = item.name
        if counts[name] > 1 and isinstance(item.image, DicomVolume):
            first = item.image.planes[0]
            name = f"{name}_{short_hash(first.instance or first.path.name)}"
        number = 2
        while name in taken:
            name, number = f"{item.name}_{number}", number + 1
        taken.add(name)
        named.append(replace(item, name=name))
    return sorted(named, key=lambda item: (item.name, str(item.path)))
