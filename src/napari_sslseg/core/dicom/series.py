"""DICOM files sorted into series, each with a readable name that tells nobody's identity."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from napari_sslseg.core.dicom.files import quietly, refusing_damage
from napari_sslseg.core.dicom.headers import Header, read_header
from napari_sslseg.core.dicom.planes import Plane
from napari_sslseg.core.dicom.sorting import by_direction, by_phase, is_stray
from napari_sslseg.core.dicom.stack import Stack
from napari_sslseg.core.errors import GeometryError, VolumeError
from napari_sslseg.core.series import Series


def dicom_series(files: Sequence[Path]) -> list[Series]:
    """Sort DICOM files into series; a series in time or of several directions gives several.

    Parameters
    ----------
    files : sequence of Path
        Files in any order. A DICOMDIR stands for the files that it lists.

    Returns
    -------
    list of Series
        By patient, study and number. What is no volume has a ``problem``.
    """
    with quietly():
        return _with_names_of_their_own(_sorted_into_series(files))


def _sorted_into_series(files: Sequence[Path]) -> list[Series]:
    groups: dict[tuple[str, str], list[Header]] = defaultdict(list)
    alone: list[Header] = []
    for header in _headers(files):
        if header.problem is None:
            uid = header.text("SeriesInstanceUID")
            # Where it was removed, the folder holds a series together; each mosaic is a volume.
            where = str(header.path if header.mosaic else "" if uid else header.path.parent)
            groups[uid, where].append(header)
        else:
            alone.append(header)
    found: list[Series] = []
    for group in groups.values():
        found += _volumes(group)
    return found + [_problem(header, str(header.problem)) for header in alone]


def pseudonym(header: Header) -> str:
    """Name of the patient that tells nothing: a slow hash of the patient's number.

    The same patient has the same pseudonym in every folder and on every machine, which splits by
    subject need. Where the file names no patient, the study stands for it.
    """
    identity = header.text("PatientID") or header.text("StudyInstanceUID") or str(header.path)
    return f"patient-{_slow_hash(identity)}"


@lru_cache(maxsize=4096)
def _slow_hash(identity: str) -> str:
    # Patients' numbers are short: a quick hash could be undone by trying them all.
    key = hashlib.scrypt(
        identity.encode("utf-8", "surrogateescape"), salt=b"napari-sslseg", n=2**12, r=8, p=1
    )
    return key.hex()[:8]


def _headers(files: Iterable[Path]) -> Iterable[Header]:
    seen: set[Path] = set()
    for file in files:
        for path in _listed(file):
            if path not in seen:
                seen.add(path)
                yield read_header(path)


def _listed(file: Path) -> list[Path]:
    """The file, or those that a DICOMDIR lists."""
    if not file.name.upper().startswith("DICOMDIR"):
        return [file]
    header = read_header(file)
    if "DirectoryRecordSequence" not in header.dataset:
        return [file]
    listed = []
    with refusing_damage(file, "list of files"):
        for record in header.dataset.DirectoryRecordSequence:
            parts = record.get("ReferencedFileID")
            if parts:
                parts = [parts] if isinstance(parts, str) else list(parts)
                listed.append(file.parent.joinpath(*map(str, parts)))
    inside = [path for path in listed if _is_inside(path, file.parent)]
    return [path for path in inside if path.is_file()] or [file]


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _volumes(headers: list[Header]) -> list[Series]:
    """The volumes of one series, or the reason why it is none."""
    files = [header.path for header in headers]
    path = files[0] if len(files) == 1 else Path(os.path.commonpath([f.parent for f in files]))
    first = headers[0]
    where = f"The series {_title(first)} in {path}"
    planes = [plane for header in headers for plane in header.planes]
    groups = by_direction(planes)
    strays = [plane for group in groups if is_stray(group, groups) for plane in group]
    found: list[Series] = []
    if strays:
        problem = (
            f"{where} holds images in {len(groups)} directions or sizes, and {len(strays)} of "
            "them lie alone, as those of a localizer do, so they make no volume; choose another "
            "series."
        )
        outside = tuple(dict.fromkeys(plane.path for plane in strays))
        found.append(_problem(first, problem, path, outside))
    for group in groups:
        if not is_stray(group, groups):
            found += _stacks(group, first, where, path)
    return found


def _stacks(planes: list[Plane], first: Header, where: str, path: Path) -> list[Series]:
    """The volumes among planes of one direction, or the reason why there is none."""
    found = []
    try:
        for phase, part in by_phase(planes, where):
            stack = Stack(part, where, path)
            found.append(
                Series(
                    name="_".join([pseudonym(first), _title(first), _slug(phase)]).rstrip("_"),
                    subject=pseudonym(first),
                    path=path,
                    files=stack.files,
                    modality=_slug(first.text("Modality")) or None,
                    image=stack,
                )
            )
    except (VolumeError, GeometryError) as error:
        files = tuple(dict.fromkeys(plane.path for plane in planes))
        return [_problem(first, str(error), path, files)]
    return found


def _problem(
    header: Header,
    problem: str,
    path: Path | None = None,
    files: tuple[Path, ...] = (),
) -> Series:
    return Series(
        name="_".join([pseudonym(header), _title(header)]),
        subject=pseudonym(header),
        path=path or header.path,
        files=files or (header.path,),
        modality=_slug(header.text("Modality")) or None,
        problem=problem,
        is_scan=header.is_scan,
    )


def _title(header: Header) -> str:
    """Modality, number and description of the series, without anything of the patient's."""
    words = _slug(header.text("SeriesDescription"))
    private = [
        word
        for keyword in ("PatientName", "PatientID", "PatientBirthDate")
        for word in re.split(r"[\W_]+", header.text(keyword))
        if len(word) > 1
    ]
    if any(word.lower() in words.lower() for word in private):
        words = ""
    parts = [header.text("Modality") or "image", header.text("SeriesNumber"), words]
    return "_".join(_slug(part) for part in parts if part)


def _slug(text: str) -> str:
    return re.sub(r"[^\w.+]+", "-", text).strip("-.")[:60]


def _with_names_of_their_own(found: list[Series]) -> list[Series]:
    counts: dict[str, int] = defaultdict(int)
    named = []
    # What can be used comes first, so that a stray image does not take the name of its series.
    for item in sorted(found, key=lambda item: (item.problem is not None, str(item.path))):
        counts[item.name] += 1
        again = counts[item.name]
        named.append(item if again == 1 else replace(item, name=f"{item.name}_{again}"))
    return sorted(named, key=lambda item: (item.name, str(item.path)))
