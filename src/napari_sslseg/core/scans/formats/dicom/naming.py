"""Readable names of patients and series that tell nobody's identity."""

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
    "OtherPatientIDs",
    "OtherPatientNames",
    "AccessionNumber",
)
# 1.2.1970, 1970-02-01, 01/02/70, 19700201, 01021970: a date of any kind.
DATE = re.compile(r"\d{1,4}[./ -]\d{1,2}[./ -]\d{1,4}|(?<!\d)\d{8}(?!\d)")


def pseudonym(header: Header) -> str:
    """Name of the patient that tells nothing: a slow hash of the patient's number.

    The same patient has the same pseudonym in every folder and on every machine, which splits by
    subject need. Where the file names no patient, the study stands for it.
    """
    identity = header.text("PatientID") or header.text("StudyInstanceUID") or str(header.path)
    return f"patient-{_slow_hash(identity)}"


def series_title(header: Header) -> str:
    """Modality, number and description of the series, without anything of the patient's."""
    parts = [header.text("Modality") or "image", header.text("SeriesNumber"), _description(header)]
    return "_".join(slug(part) for part in parts if part)


def series_hash(headers: Sequence[Header]) -> str:
    """Short mark of a series that stays whatever lies beside it and wherever it is moved.

    Two examinations of one patient often have series of the same number and description.
    """
    uid = headers[0].text("SeriesInstanceUID")
    if headers[0].mosaic or not uid:
        instances = sorted(header.text("SOPInstanceUID") for header in headers)
        uid = "|".join(filter(None, instances)) or "|".join(sorted(h.path.name for h in headers))
    return short_hash(uid)


def short_hash(text: str) -> str:
    """Six hexadecimal digits for a text that is no secret, such as a UID."""
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=3).hexdigest()


def nearest_plane(planes: Sequence[ImagePlane]) -> str:
    """Nearest anatomical plane of a stack."""
    return ("sagittal", "coronal", "axial")[int(np.abs(plane_normal(planes[0])).argmax())]


def slug(text: str) -> str:
    """Text as part of a file name."""
    return re.sub(r"[^\w.+]+", "-", text).strip("-.")[:60]


def _description(header: Header) -> str:
    """Description of the series; none if it holds a date, or a word that names the patient."""
    text = header.text("SeriesDescription")
    words = set(_words(text))
    joined = "".join(_words(text))
    if DATE.search(text):
        return ""
    for keyword in PRIVATE:
        for private in _words(header.text(keyword)):
            # One letter is an initial, which any word holds; one sign of another script is a name.
            long = len(private) > 2 or not private.isascii()
            if private in words or (long and private in joined):
                return ""
    return text


def _words(text: str) -> list[str]:
    """Lower-case words without accents."""
    plain = unicodedata.normalize("NFKD", text)
    plain = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return [word.casefold() for word in re.split(r"[\W_]+", plain) if word]


@lru_cache(maxsize=4096)
def _slow_hash(identity: str) -> str:
    # Patients' numbers are short: a quick hash could be undone by trying them all.
    key = hashlib.scrypt(
        identity.encode("utf-8", "surrogateescape"), salt=b"napari-sslseg", n=2**12, r=8, p=1
    )
    return key.hex()[:8]
