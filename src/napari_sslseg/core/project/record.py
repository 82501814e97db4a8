"""The record of a project, ``project.json``: its contents, limits, reading and writing."""

import json
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
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
from napari_sslseg.core.common.safe_json import StoredPath, parse_json
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.common.text import fold_name, printable
from napari_sslseg.core.project.names import is_name
from napari_sslseg.core.runs.record import first_problem
from napari_sslseg.core.scans.slices.ranges import (
    count_ranges,
    format_range_ends,
    parse_range_ends,
    parse_ranges,
)

RECORD = "project.json"
FORMAT = 1

MOST_BYTES = 64 * 2**20
MOST_SCANS = 5000
MOST_FILES = 300_000
"""Files of all scans together; a DICOM series has one for each slice."""

MOST_SLICES = 100_000
"""Slices of a scan along any axis."""

MOST_DONE = 5_000_000
"""Slices of all scans together that are done; a range of a few bytes can name any number."""

MOST_DONE_TEXT = 8 * 2**20
"""Characters of the ranges of done slices, of all scans together."""

MOST_ACCEPTED = 1000
"""Pairs of run and plane from which predictions were accepted into one scan."""

LARGEST_CLASS = 254
"""Label values fit into a byte, and 255 is :data:`UNKNOWN_VALUE`."""

UNKNOWN_VALUE = 255
"""Label value of voxels whose class is unknown: neither a class nor background."""

UNKNOWN_NAME, UNKNOWN_COLOUR = "unknown", "#a8a8a8"
"""How unknown voxels are shown."""

Role = Literal["train", "test"]
"""Whether a scan is used for training or held out for testing."""

_RANGES = re.compile(r"(\d{1,6}(-\d{1,6})?(, \d{1,6}(-\d{1,6})?)*)?", re.ASCII)
_HASH = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_LENGTH = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RecordPart(BaseModel):
    """A part of the record. Unknown keys are errors, since writing the record would lose them."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class ProjectClass(RecordPart):
    """A structure that is labelled."""

    value: int = Field(ge=1, le=LARGEST_CLASS)
    """Value in the label maps."""

    name: str = Field(min_length=1, max_length=100)
    colour: str = Field(pattern=r"^#[0-9a-f]{6}$")

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name != name.strip() or name != printable(name):
            raise ValueError("a name starts and ends without blanks and has no control characters")
        return name


class AcceptedSlices(RecordPart):
    """Slices of a scan into whose labels a prediction was accepted."""

    plane: Plane
    """Plane along which the slices are numbered."""

    run: str = Field(min_length=1, max_length=255)
    """Name of the run that made the prediction."""

    slices: str = Field(min_length=1, max_length=MOST_SLICES)
    """Ranges such as "0-8, 12"."""

    _count: int = PrivateAttr(default=0)

    @property
    def count(self) -> int:
        """Number of slices, found without listing them."""
        return self._count

    @property
    def numbers(self) -> tuple[int, ...]:
        """All slices."""
        return parse_ranges(self.slices, MOST_SLICES)

    @field_validator("run")
    @classmethod
    def _check_run(cls, run: str) -> str:
        return _check_printable(run)

    @field_validator("slices")
    @classmethod
    def _check_slices(cls, slices: str) -> str:
        return check_ranges(slices)

    @model_validator(mode="after")
    def _count_slices(self) -> "AcceptedSlices":
        self._count = count_ranges(self.slices, MOST_SLICES)
        return self


class ScanEntry(RecordPart):
    """A scan of a project."""

    name: str
    """Unique in the project; also the name of the label file."""

    path: StoredPath
    """File or folder; relative to the project if it is in the project or in the folder around."""

    absolute: StoredPath
    """The same path, absolute."""

    files: tuple[StoredPath, ...] = Field(default=(), max_length=MOST_FILES)
    """Files of a series, relative to the folder ``path``; empty if the scan is one file."""

    series: StoredPath
    """Name of the series among those in the files."""

    frame: int = Field(default=0, ge=0)
    """Number of the volume in a file with several."""

    subject: str = Field(min_length=1, max_length=200)
    modality: Literal["MR", "CT"]
    role: Role
    shape: tuple[int, int, int]
    """Shape in the display grid."""

    spacing: tuple[_LENGTH, _LENGTH, _LENGTH] | None = None
    """Voxel size in mm along the display axes; unknown in projects of early versions."""

    content: _HASH
    """Hash of values and geometry, as in the record of a run."""

    stamp: _HASH
    """Hash of names, sizes and times of the files, to find quickly whether they were changed."""

    done: str = Field(default="", max_length=MOST_SLICES)
    """Slices that are done, as ranges such as "0-8, 12"."""

    labelled_classes: tuple[int, ...] | None = Field(
        default=None, min_length=1, max_length=LARGEST_CLASS
    )
    """Classes that are labelled in this scan, if not all are."""

    accepted: tuple[AcceptedSlices, ...] = Field(default=(), max_length=MOST_ACCEPTED)
    """Slices into which predictions were accepted; unknown in projects of early versions."""

    _done_count: int = PrivateAttr(default=0)

    @property
    def done_count(self) -> int:
        """Number of slices that are done, found without listing them."""
        return self._done_count

    @property
    def done_slices(self) -> tuple[int, ...]:
        """Slices that are done."""
        return parse_ranges(self.done, MOST_SLICES)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not is_name(name):
            raise ValueError("it cannot be the name of a file")
        return name

    @field_validator("subject")
    @classmethod
    def _check_subject(cls, subject: str) -> str:
        return _check_printable(subject)

    @field_validator("files")
    @classmethod
    def _check_files(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        for file in files:
            if file.startswith("/") or ".." in PurePosixPath(file).parts:
                raise ValueError(f"{file} is not in the folder of the scan")
        return files

    @field_validator("shape")
    @classmethod
    def _check_shape(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if not all(1 <= n <= MOST_SLICES for n in shape):
            raise ValueError("a scan cannot have this shape")
        return shape

    @field_validator("done")
    @classmethod
    def _check_done(cls, done: str, info: ValidationInfo) -> str:
        return check_ranges(done, max(info.data.get("shape", (MOST_SLICES,))))

    @field_validator("accepted")
    @classmethod
    def _check_accepted(
        cls, accepted: tuple[AcceptedSlices, ...], info: ValidationInfo
    ) -> tuple[AcceptedSlices, ...]:
        _check_unique("accepted slices of", ((item.run, item.plane) for item in accepted))
        for item in accepted:
            count = info.data.get("shape", (MOST_SLICES,) * 3)[PLANE_AXIS[item.plane]]
            if _last_slice(item.slices) >= count:
                raise ValueError(f"there are only {count} {item.plane} slices")
        return accepted

    @model_validator(mode="after")
    def _count_done(self) -> "ScanEntry":
        self._done_count = count_ranges(self.done, MOST_SLICES)
        return self


class ProjectRecord(RecordPart):
    """Contents of ``project.json``."""

    format: int = Field(default=FORMAT, ge=FORMAT, le=FORMAT)
    created: str = Field(default="", max_length=100)
    plane: Plane = "axial"
    classes: tuple[ProjectClass, ...] = Field(default=(), max_length=LARGEST_CLASS)

    removed_classes: tuple[ProjectClass, ...] = Field(default=(), max_length=LARGEST_CLASS)
    """Classes that were removed. Runs and replaced label files still have their values, so no
    class of another name gets one."""

    scans: tuple[ScanEntry, ...] = Field(default=(), max_length=MOST_SCANS)
    screen: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "ProjectRecord":
        every = (*self.classes, *self.removed_classes)
        _check_unique("classes of the value", (item.value for item in every))
        _check_unique("classes of the name", (fold_name(item.name) for item in self.classes))
        _check_unique("scans of the name", (fold_name(item.name) for item in self.scans))
        if sum(len(scan.files) for scan in self.scans) > MOST_FILES:
            raise ValueError(f"the scans have more than {MOST_FILES:,} files")
        accepted = [item for scan in self.scans for item in scan.accepted]
        for what, counts, texts in (
            ("done", (s.done_count for s in self.scans), (s.done for s in self.scans)),
            ("accepted", (i.count for i in accepted), (i.slices for i in accepted)),
        ):
            if sum(counts) > MOST_DONE or sum(map(len, texts)) > MOST_DONE_TEXT:
                raise ValueError(
                    f"more than {MOST_DONE:,} slices are {what}, or in too many ranges"
                )
        values = {item.value for item in self.classes}
        for scan in self.scans:
            if scan.labelled_classes is not None and not values.issuperset(scan.labelled_classes):
                raise ValueError(f"{scan.name} has a labelled class that is no class")
        roles: dict[str, str] = {}
        for scan in self.scans:
            if roles.setdefault(scan.subject, scan.role) != scan.role:
                raise ValueError(f"the subject {scan.subject} is in both training and test")
            if scan.done and _last_slice(scan.done) >= scan.shape[PLANE_AXIS[self.plane]]:
                raise ValueError(f"more slices of {scan.name} are done than it has")
        return self


def _check_unique(what: str, values: Iterable[object]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"there are two {what} {value}")
        seen.add(value)


def check_ranges(text: str, end: int = MOST_SLICES) -> str:
    """Check ranges of slices below ``end``, such as "0-8, 12", without listing the slices.

    Raises
    ------
    ValueError
        If the text is something else, or its ranges are not ascending.
    """
    if not _RANGES.fullmatch(text):
        raise ValueError("ranges of slices are needed, such as 0-8, 12")
    ends = parse_range_ends(text, end)
    apart = all(last + 1 < first for (_, last), (first, _) in pairwise(ends))
    if not apart or format_range_ends(ends) != text:
        raise ValueError("the ranges are not ascending")
    return text


def _last_slice(text: str) -> int:
    """The last number of checked ranges, which is at their end."""
    return int(re.split("[-, ]", text[-6:])[-1])


def _check_printable(text: str) -> str:
    if text != printable(text):
        raise ValueError("it has control characters")
    return text


Part = TypeVar("Part", bound=RecordPart)


def with_changes(part: Part, **changes: Any) -> Part:
    """A copy of a part of a record with other values, checked.

    Raises
    ------
    ProjectError
        With the first problem in one sentence.
    """
    return make_part(type(part), **{**dict(part), **changes})


def make_part(kind: type[Part], **values: Any) -> Part:
    """Make a part of a record; raises a ProjectError with the first problem in one sentence."""
    try:
        return kind(**values)
    except ValidationError as error:
        problem = first_problem(error).removeprefix("settings: ")
        raise ProjectError(
            f"The project does not accept this: {problem}; choose something else."
        ) from error


def format_record(record: ProjectRecord) -> str:
    """The text of ``project.json``.

    Raises
    ------
    ProjectError
        If the text would be too large to be read again.
    """
    text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False)
    # Escapes the bytes of file names that are not UTF-8, see PEP 383.
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > 2**20:  # A shorter text cannot exceed any limit.
        try:
            data = text.encode()
            if len(data) > MOST_BYTES:
                raise ValueError("the record is too long")
            parse_json(data)
        except ValueError as error:
            raise ProjectError(
                f"The project is too large ({error}); create another one for more scans."
            ) from error
    return text


def _as_tuples(found: Any) -> Any:
    """Convert the lists of a record, except values of the window, to tuples.

    Pydantic itself reads no JSON with file names that are not UTF-8.
    """
    if isinstance(found, dict):
        return {key: v if key == "screen" else _as_tuples(v) for key, v in found.items()}
    return tuple(map(_as_tuples, found)) if isinstance(found, list) else found


def read_record(folder: Path) -> tuple[ProjectRecord, str]:
    """Read the record of a project; nothing is written.

    Returns
    -------
    record : ProjectRecord
    text : str
        Contents of the file.

    Raises
    ------
    ProjectError
        If the record is missing, damaged, or of a newer version.
    """
    path = folder / RECORD
    if not folder.is_dir():
        raise ProjectError(f"The project {folder} does not exist; check the path.")
    if not path.is_file():
        raise ProjectError(
            f"{folder} is not a project (it has no {RECORD}); choose the folder of a project, or "
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
        return ProjectRecord.model_validate(_as_tuples(found)), data.decode("utf-8")
    except OSError as error:
        raise ProjectError(
            f"{path} cannot be read ({error.strerror or error}); check the disk and the "
            "permissions of the file."
        ) from error
    except ValidationError as error:
        reason = first_problem(error)
    except ValueError as error:
        reason = printable(error, 200)
    raise ProjectError(
        f"{path} is damaged ({reason}) and was not changed; restore a copy of it, or create a new "
        "project and import the labels of this one."
    )
