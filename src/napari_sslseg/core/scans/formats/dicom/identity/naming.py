"""Readable names of patients and series that do not reveal the identity."""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from functools import lru_cache

import numpy as np

from napari_sslseg.core.scans.formats.dicom.headers import Header
from napari_sslseg.core.scans.formats.dicom.identity.persons import (
    comparable_words,
    name_words,
    names_person,
    personal_texts,
    without_accents,
)
from napari_sslseg.core.scans.formats.dicom.planes.plane import ImagePlane
from napari_sslseg.core.scans.formats.dicom.planes.sorting import plane_normal

_MONTH = r"(?:jan|feb|m[aä]r|mrz|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|d[eé][cz])[^\W\d_]*"
IDENTIFYING = re.compile(
    # 1.2.1970, 1970-02-01, 01/02/70, 01_02_1970: a date of any kind.
    r"\d{1,4}[./ -]\d{1,2}[./ -]\d{1,4}|\d{1,4}_\d{1,2}_\d{1,4}"
    # 02JAN1970, 2. Januar 70, Jan 2 1970
    rf"|\d{{1,4}}[\W_]*{_MONTH}[\W_]*\d{{1,4}}|(?<![^\W\d_]){_MONTH}[\W_]*\d{{1,2}}[\W_]+\d{{2,4}}"
    # 19700201, 700201, a hospital's number, a telephone number
    r"|\d{6,}"
    # 50Y, 50 years: the age
    r"|(?<!\d)\d{1,3}[ -]?(?:y|yo|yrs?|years?|j|jahre?)(?![^\W\d_])"
    # Dr. Brinkmann, Pat: Brinkmann: a person whom the header may not name
    r"|(?<![^\W\d_])(?:dr|prof|herrn?|frau|mrs|pat)(?:[. _]+|: *)[^\W\d_]{2}|patient(?:in)?: *\w",
    re.IGNORECASE,
)

# PatientID or PatientName of everybody, after an anonymisation.
_NOBODY = re.compile(
    r"[\W_]*|(?:(?:anon(?:[iy]m(?:ous|i[sz]ed?|isiert|izad[ao]|[aeo])?)?|unknown|unbekannt|inconnu"
    r"|desconocid[ao]|sconosciut[ao]|none|null|nil|n\W?a|no|id|name|not|available|undefined|de"
    r"|identified|deidentified|removed|redacted|hidden|censored|confidential|dummy|default|patient"
    r"|subject|test|john|jane|doe|nn|x|0)[\W_]*)+",
    re.IGNORECASE,
)


def pseudonym(header: Header) -> str:
    """Return a pseudonym of the patient: a slow hash of what identifies the patient.

    A patient has the same pseudonym in every folder and on every machine, as splits by subject
    require. See :func:`identity_doubt` for files without a patient ID.
    """
    return f"patient-{_slow_hash(_identity(header)[0])}"


def shared_ids(headers: Iterable[Header]) -> set[str]:
    """Return the patient IDs that headers give to several names with several birth dates."""
    persons: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for header in headers:
        name, birth = header.text("PatientName"), header.text("PatientBirthDate")
        if birth and not _names_nobody(name):
            persons[header.text("PatientID")].add(("^".join(name_words(name)), birth))
    # One name may be spelled in two ways, and one birth date mistyped, but seldom both.
    return {
        patient
        for patient, found in persons.items()
        if min(len({name for name, _ in found}), len({birth for _, birth in found})) > 1
    }


def identity_doubt(header: Header, shared: Container[str] = ()) -> str:
    """Return why the patient is not clearly identified, in a part of a sentence; empty if it is.

    ``shared`` are patient IDs of several persons, see :func:`shared_ids`.

    Anonymisation often gives all patients one ID, such as ANONYMOUS, or none. The name of the
    patient with the birth date is used then, which often is a pseudonym, or else the study: two
    studies are not taken for one patient because of an ID that names nobody.
    """
    doubt = _identity(header)[1]
    if not doubt and header.text("PatientID") in shared:
        doubt = (
            "the patient ID also occurs with another name and birth date, so scans of several "
            "patients may be taken for those of one"
        )
    return doubt


def _identity(header: Header) -> tuple[str, str]:
    patient, name = header.text("PatientID"), header.text("PatientName")
    if not _names_nobody(patient):
        return patient, ""
    if not _names_nobody(name):
        doubt = "the patient ID says nothing, so the patient's name and birth date are used"
        # Müller^Hans and MUELLER^HANS^^ are one person.
        return f"{'^'.join(name_words(name))}|{header.text('PatientBirthDate')}", doubt
    doubt = (
        "neither the patient ID nor the patient's name says who it is, so each study is taken for "
        "another patient"
    )
    return header.text("StudyInstanceUID") or patient or str(header.path), doubt


def _names_nobody(text: str) -> bool:
    return _NOBODY.fullmatch(without_accents(text)) is not None


def series_title(header: Header) -> str:
    """Return modality, number and description of the series, without patient data."""
    number = header.text("SeriesNumber")
    texts = personal_texts(header.dataset)
    # Small numbers are also patient IDs by chance.
    if len(number) > 3 and any(number in comparable_words(text) for text in texts):
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
    birth_year = header.text("PatientBirthDate")[:4]
    if IDENTIFYING.search(plain) or birth_year in re.findall(r"\d+", plain):
        return ""
    if names_person(text, header.dataset):
        return ""
    return text


@lru_cache(maxsize=4096)
def _slow_hash(identity: str) -> str:
    # Patient IDs are short: a fast hash could be reversed by trying all of them.
    key = hashlib.scrypt(
        identity.encode("utf-8", "surrogateescape"), salt=b"napari-sslseg", n=2**12, r=8, p=1
    )
    return key.hex()[:8]
