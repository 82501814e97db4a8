"""The record of a project, ``project.json``: what it may hold, and how it is read and written."""

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    Field,
    JsonValue,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from napari_sslseg.core.common.errors import ProjectError
from napari_sslseg.core.common.safe_files import read_regular
from napari_sslseg.core.common.safe_json import parse_json
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.project.accepted_slices import (
    MOST_SLICES,
    AcceptedSlices,
    ProjectPart,
    checked_ranges,
    last_slice,
)
from napari_sslseg.core.project.names import folded, is_name
from napari_sslseg.core.runs.record import first_problem
from napari_sslseg.core.scans.slice_ranges import count_ranges, parse_ranges

RECORD = "project.json"
FORMAT = 1

MOST_BYTES = 64 * 2**20
MOST_SCANS = 5000
MOST_FILES = 300_000
"""Of all scans together: DICOM series have one for each slice."""

MOST_DONE = 5_000_000
"""Slices that are done, of all scans together; a few bytes can claim any number of them."""

MOST_DONE_TEXT = 8 * 2**20
"""Characters of their ranges."""

MOST_ACCEPTED = 1000
"""Runs, by plane, from which a scan took in predictions."""

LARGEST_CLASS = 254
"""Label values fit into a byte, and 255 is left to programs that mark "ignore" by it."""

Role = Literal["train", "test"]
"""What a scan is for: to learn from, or held out to be tested on."""

_HASH = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_LENGTH = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_PATH = Annotated[str, Field(min_length=1, max_length=4096)]


class ProjectClass(ProjectPart):
    """A structure that is labelled."""

    value: int = Field(ge=1, le=LARGEST_CLASS)
    """Its number in the label maps."""

    name: str = Field(min_length=1, max_length=100)
    colour: str = Field(pattern=r"^#[0-9a-f]{6}$")

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name != name.strip() or name != printable(name):
            raise ValueError("a name has no blanks around it and no control characters")
        return name


class ScanEntry(ProjectPart):
    """A scan of a project."""

    name: str
    """Unique in the project; that of its label file."""

    path: _PATH
    """File or folder; relative to the project if it lies in it or beside it."""

    absolute: _PATH
    """The same, absolute."""

    files: tuple[_PATH, ...] = Field(default=(), max_length=MOST_FILES)
    """Of a series of many files, those in the folder ``path``."""

    series: str = Field(max_length=1000)
    """Name of the series among those in its files."""

    frame: int = Field(default=0, ge=0)
    """Which volume of a file with several."""

    subject: str = Field(min_length=1, max_length=200)
    modality: Literal["MR", "CT"]
    role: Role
    shape: tuple[int, int, int]
    """Shape of the display grid."""

    spacing: tuple[_LENGTH, _LENGTH, _LENGTH] | None = None
    """Voxel size in mm along the display axes; unknown in projects of early versions."""

    content: _HASH
    """Hash of its values and their place in space, as runs record it."""

    stamp: _HASH
    """Hash of names, sizes and times of its files, to tell quickly whether they were touched."""

    done: str = Field(default="", max_length=MOST_SLICES)
    """Slices that are finished, as ranges such as "0-8, 12"."""

    accepted: tuple[AcceptedSlices, ...] = Field(default=(), max_length=MOST_ACCEPTED)
    """Slices into which predictions were accepted; unknown in projects of early versions."""

    _done_count: int = PrivateAttr(default=0)

    @property
    def done_count(self) -> int:
        """How many slices are finished; they are not listed for it."""
        return self._done_count

    @property
    def done_slices(self) -> tuple[int, ...]:
        """Slices that are finished."""
        return parse_ranges(self.done, MOST_SLICES)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not is_name(name):
            raise ValueError("it is no name of a file")
        return name

    @field_validator("subject")
    @classmethod
    def _check_subject(cls, subject: str) -> str:
        if subject != printable(subject):
            raise ValueError("it holds control characters")
        return subject

    @field_validator("files")
    @classmethod
    def _check_files(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        for file in files:
            if file.startswith("/") or ".." in PurePosixPath(file).parts:
                raise ValueError(f"{file} does not lie in the folder of the scan")
        return files

    @field_validator("shape")
    @classmethod
    def _check_shape(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if not all(1 <= n <= MOST_SLICES for n in shape):
            raise ValueError("it is no shape of a scan")
        return shape

    @field_validator("done")
    @classmethod
    def _check_done(cls, done: str, info: ValidationInfo) -> str:
        return checked_ranges(done, max(info.data.get("shape", (MOST_SLICES,))))

    @field_validator("accepted")
    @classmethod
    def _check_accepted(
        cls, accepted: tuple[AcceptedSlices, ...], info: ValidationInfo
    ) -> tuple[AcceptedSlices, ...]:
        _unique("accepted slices of", ((item.run, item.plane) for item in accepted))
        for item in accepted:
            count = info.data.get("shape", (MOST_SLICES,) * 3)[PLANE_AXIS[item.plane]]
            if last_slice(item.slices) >= count:
                raise ValueError(f"there are only {count} {item.plane} slices")
        return accepted

    @model_validator(mode="after")
    def _count_done(self) -> "ScanEntry":
        self._done_count = count_ranges(self.done, MOST_SLICES)
        return self


class ProjectRecord(ProjectPart):
    """All that a project remembers."""

    format: int = Field(default=FORMAT, ge=FORMAT, le=FORMAT)
    created: str = Field(default="", max_length=100)
    plane: Plane = "axial"
    classes: tuple[ProjectClass, ...] = Field(default=(), max_length=LARGEST_CLASS)
    scans: tuple[ScanEntry, ...] = Field(default=(), max_length=MOST_SCANS)
    screen: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "ProjectRecord":
        _unique("classes of the value", (item.value for item in self.classes))
        _unique("classes of the name", (folded(item.name) for item in self.classes))
        _unique("scans of the name", (folded(item.name) for item in self.scans))
        if sum(len(scan.files) for scan in self.scans) > MOST_FILES:
            raise ValueError(f"its scans have more than {MOST_FILES:,} files")
        accepted = [item for scan in self.scans for item in scan.accepted]
        for what, counts, texts in (
            ("done", (s.done_count for s in self.scans), (s.done for s in self.scans)),
            ("accepted", (i.count for i in accepted), (i.slices for i in accepted)),
        ):
            if sum(counts) > MOST_DONE or sum(map(len, texts)) > MOST_DONE_TEXT:
                raise ValueError(
                    f"more than {MOST_DONE:,} slices are {what}, or in too many ranges"
                )
        roles: dict[str, str] = {}
        for scan in self.scans:
            if roles.setdefault(scan.subject, scan.role) != scan.role:
                raise ValueError(f"the subject {scan.subject} is for both training and test")
            if scan.done and last_slice(scan.done) >= scan.shape[PLANE_AXIS[self.plane]]:
                raise ValueError(f"more slices of {scan.name} are done than it has")
        return self


def _unique(what: str, values: Iterable[object]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"there are two {what} {value}")
        seen.add(value)


Part = TypeVar("Part", bound=ProjectPart)


def changed(part: Part, **changes: Any) -> Part:
    """A part of a record with other values, checked.

    Raises
    ------
    ProjectError
        With the first problem in one sentence.
    """
    return made(type(part), **{**dict(part), **changes})


def made(kind: type[Part], **values: Any) -> Part:
    """A part of a record, or a ProjectError with the first problem in one sentence."""
    try:
        return kind(**values)
    except ValidationError as error:
        raise ProjectError(
            f"The project cannot take that ({first_problem(error)}); choose something else."
        ) from error


def dumped(record: ProjectRecord) -> str:
    """The text of ``project.json``.

    Raises
    ------
    ProjectError
        If it could not be read again.
    """
    text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False)
    if len(text) > 2**20:  # Less can be neither too long nor hold too many values.
        try:
            data = text.encode()
            if len(data) > MOST_BYTES:
                raise ValueError("the record is too long")
            parse_json(data)
        except ValueError as error:
            raise ProjectError(
                f"The project has grown too large ({error}); begin another one for more scans."
            ) from error
    return text


def read_record(folder: Path) -> tuple[ProjectRecord, str]:
    """Read the record of a project; nothing is written, whatever it holds.

    Returns
    -------
    record : ProjectRecord
    text : str
        As it stands in the file.

    Raises
    ------
    ProjectError
        In one sentence, if there is none, or it is damaged or newer.
    """
    path = folder / RECORD
    advice = (
        "the file is left as it is: put a copy of it back, or begin a new project and import the "
        "labels of this one"
    )
    if not folder.is_dir():
        raise ProjectError(f"The project {folder} does not exist; check the path.")
    if not path.is_file():
        raise ProjectError(
            f"{folder} is no project (it holds no {RECORD}); choose the folder of a project, or "
            "create one."
        )
    try:
        data = read_regular(path, MOST_BYTES)
        found = parse_json(data)
        number = found.get("format") if isinstance(found, dict) else None
        if type(number) is int and number > FORMAT:
            raise ProjectError(
                f"{path} was written by a newer version; update this one to open the project."
            )
        return ProjectRecord.model_validate_json(data), data.decode("utf-8")
    except OSError as error:
        raise ProjectError(
            f"{path} cannot be read ({error.strerror or error}); check the disk and who may read "
            "the file."
        ) from error
    except ValidationError as error:
        reason = first_problem(error)
    except ValueError as error:
        reason = printable(error, 200)
    raise ProjectError(f"{path} is damaged ({reason}); {advice}.")
