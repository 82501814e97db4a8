"""Readable names of patients and series that do not reveal the identity."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from napari_sslseg.core.scans.formats.dicom.headers import Header
from napari_sslseg.core.scans.formats.dicom.plane import ImagePlane
from napari_sslseg.core.scans.formats.dicom.sorting import plane_normal

PRIVATE = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientBirthName",
    "PatientMotherBirthName",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientAddress",
    "ResponsiblePerson",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "AccessionNumber",
)
"""Attributes whose words do not occur in names."""

_MONTH = r"(?:jan|feb|m[aä]r|mrz|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|d[eé][cz])[^\W\d_]*"
IDENTIFYING = re.compile(
    # 1.2.1970, 1970-02-01, 01/02/70, 01_02_1970: a date of any kind.
    r"\d{1,4}[./ -]\d{1,2}[./ -]\d{1,4}|\d{1,4}_\d{1,2}_\d{1,4}"
    # 02JAN1970, 2. Januar 70, Jan 2 1970
    rf"|\d{{1,4}}[\W_]*{_MONTH}[\W_]*\d{{1,4}}|(?<![^\W\d_]){_MONTH}[\W_]*\d{{1,2}}[\W_]+\d{{2,4}}"
    # 19700201, 700201, a hospital's number, a telephone number
    r"|\d{6,}"
    # 50Y, 50 years: the age
    r"|(?<!\d)\d{1,3}[ -]?(?:y|yo|yrs?|years?|jahre?)(?![^\W\d_])",
    re.IGNORECASE,
)

# PatientID or PatientName of everybody, after an anonymisation.
_NOBODY = re.compile(
    r"[\W_]*|(?:(?:anon(?:ym(?:ous|i[sz]ed|e)?)?|unknown|none|null|nil|na|no|id|name|not|available"
    r"|undefined|de|identified|deidentified|removed|redacted|patient|subject|test|nn|x|0)[\W_]*)+",
    re.IGNORECASE,
)


def pseudonym(header: Header) -> str:
    """Return a pseudonym of the patient: a slow hash of what identifies the patient.

    A patient has the same pseudonym in every folder and on every machine, as splits by subject
    require. See :func:`identity_doubt` for files without a patient ID.
    """
    return f"patient-{_slow_hash(_identity(header)[0])}"


def identity_doubt(header: Header) -> str:
    """Return why the patient is not clearly identified, in a part of a sentence; empty if it is.

    Anonymisation often gives all patients one ID, such as ANONYMOUS, or none. The name of the
    patient with the birth date is used then, which often is a pseudonym, or else the study: two
    studies are not taken for one patient because of an ID that names nobody.
    """
    return _identity(header)[1]


def _identity(header: Header) -> tuple[str, str]:
    patient, name = header.text("PatientID"), header.text("PatientName")
    if not _NOBODY.fullmatch(patient):
        return patient, ""
    if not _NOBODY.fullmatch(name):
        doubt = "the patient ID names nobody, so the patient's name and birth date are used"
        return f"{name}|{header.text('PatientBirthDate')}", doubt
    doubt = "ID and name of the patient name nobody, so each study is taken for another patient"
    return header.text("StudyInstanceUID") or patient or str(header.path), doubt


def series_title(header: Header) -> str:
    """Return modality, number and description of the series, without patient data."""
    number = header.text("SeriesNumber")
    # Small numbers are also patient IDs by chance.
    if len(number) > 3 and any(number in _words(header.text(keyword)) for keyword in PRIVATE):
        number = ""
    parts = [header.text("Modality") or "image", number, _description(header)]
    return "_".join(slug(part) for part in parts if part)


def series_hash(headers: Sequence[Header]) -> str:
    """Return a short hash of a series that does not depend on its folder or on other files.

    Two examinations of one patient often have series of the same number and description.
    """
    uid = headers[0].text("SeriesInstanceUID")
    scattered = any(header.text("SeriesInstanceUID") != uid for header in headers)
    if headers[0].mosaic or not uid or scattered:
        instances = sorted(header.text("SOPInstanceUID") for header in headers)
        uid = "|".join(filter(None, instances)) or "|".join(sorted(h.path.name for h in headers))
    return short_hash(uid)


def short_hash(text: str) -> str:
    """Return six hexadecimal digits for a text that is not secret, such as a UID."""
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=3).hexdigest()


def nearest_plane(planes: Sequence[ImagePlane]) -> str:
    """Return the nearest anatomical plane of a stack."""
    return ("sagittal", "coronal", "axial")[int(np.abs(plane_normal(planes[0])).argmax())]


def slug(text: str) -> str:
    """Convert text to a part of a file name."""
    return re.sub(r"[^\w.+]+", "-", text).strip("-.")[:60]


def _description(header: Header) -> str:
    """Return the description of the series; empty if it may identify the patient.

    It may if it contains a date, an age, a long number, or a word of a name or an ID in the header.
    """
    text = header.text("SeriesDescription")
    plain = unicodedata.normalize("NFKC", text)
    words = set(_words(text))
    joined = "".join(_words(text))
    birth_year = header.text("PatientBirthDate")[:4]
    if IDENTIFYING.search(plain) or birth_year in re.findall(r"\d+", plain):
        return ""
    for keyword in PRIVATE:
        for private in _words(header.text(keyword)):
            # One or two Latin letters occur in any word; one character of another script is a name.
            long = len(private) > 2 or not private.isascii()
            if private in words or (long and private in joined):
                return ""
    return text


def _words(text: str) -> list[str]:
    """Split into lower-case words without accents."""
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return [word.casefold() for word in re.split(r"[\W_]+", plain) if word]


@lru_cache(maxsize=4096)
def _slow_hash(identity: str) -> str:
    # Patient IDs are short: a fast hash could be reversed by trying all of them.
    key = hashlib.scrypt(
        identity.encode("utf-8", "surrogateescape"), salt=b"napari-sslseg", n=2**12, r=8, p=1
    )
    return key.hex()[:8]
