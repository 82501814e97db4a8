"""Words that name a person in a DICOM header, and texts without them.

Names are compared however they are spelled: Müller, Muller, MUELLER and MÃ¼ller are equal.
"""

import re
import unicodedata
from collections.abc import Iterator

from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from napari_sslseg.core.scans.classes.class_codes import is_structure
from napari_sslseg.core.scans.formats.image_file import PARSER_ERRORS

NAMES = tuple(
    entry[4]
    for entry in DicomDictionary.values()
    if entry[0] == "PN" and "Selector" not in entry[4]
)
"""All attributes of the standard that hold the name of a person, by their type (VR) PN."""

IDS: tuple[str, ...] = (
    "PatientID",
    "PatientBirthDate",
    "PatientBirthDateInAlternativeCalendar",
    "OtherPatientIDs",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "MedicalRecordLocator",
    "AdmissionID",
    "AccessionNumber",
)
"""Attributes that identify a patient otherwise."""

SEQUENCES: tuple[str, ...] = (
    "OtherPatientIDsSequence",
    "RequestAttributesSequence",
    "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianIdentificationSequence",
    "PhysiciansOfRecordIdentificationSequence",
    "PerformingPhysicianIdentificationSequence",
    "PhysiciansReadingStudyIdentificationSequence",
    "RequestingPhysicianIdentificationSequence",
    "OperatorIdentificationSequence",
    "ContentCreatorIdentificationCodeSequence",
    "AuthorObserverSequence",
    "PersonIdentificationCodeSequence",
)
"""Sequences in which persons are named or identified."""

IDENTITY: tuple[str, ...] = (*NAMES, *IDS, *SEQUENCES)

_CODES = ("PersonIdentificationCodeSequence", "ContentCreatorIdentificationCodeSequence")
# Codes of persons, whose meaning is the name.

_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "ı": "i", "đ": "d", "ð": "d", "þ": "th", "æ": "a", "œ": "o"}
)
# The two letters that stand for an umlaut or a ring, and double letters, as in Weiss for Weiß.
_UMLAUT = re.compile(r"(?<=[aou])e|(?<=a)a")
_DOUBLE = re.compile(r"([^\W\d_])\1+")
_LEAST_LETTERS = 3


def personal_texts(dataset: Dataset) -> list[str]:
    """Names, birth dates, IDs and addresses in a dataset that was read; damaged ones are left out.

    Parameters
    ----------
    dataset : Dataset
        Attributes of a file, of which :data:`IDENTITY` were read.
    """
    return list(_texts(dataset))


def names_person(text: str, dataset: Dataset) -> bool:
    """Whether a text contains a word of a name or ID in a dataset, however it is spelled."""
    words = {word for spelled in _spellings(text) for word in comparable_words(spelled)}
    joined = ["".join(comparable_words(spelled)) for spelled in _spellings(text)]
    for personal in personal_texts(dataset):
        for spelled in _spellings(personal):
            parts = comparable_words(spelled)
            # A name may be short in each part, but not as a whole: LiWu.
            whole = ["".join(parts), "".join(reversed(parts))] if len(parts) > 1 else []
            for word in (*parts, *whole):
                # One or two Latin letters occur in any word; one of another script is a name.
                long = len(word) >= _LEAST_LETTERS or not word.isascii()
                if word in words or (long and any(word in text_ for text_ in joined)):
                    return True
    return False


def without_persons(value: object, dataset: Dataset) -> str:
    """Remove words of names and IDs in a dataset from a text, such as the name of a structure.

    Words that name a structure stay, such as the lung of a patient named Lung.

    Parameters
    ----------
    value : object
        Text, or a value of a dataset that is one; None is empty.
    dataset : Dataset
        Attributes of the file, of which :data:`IDENTITY` were read.
    """
    text = str(value or "").strip()
    personal = {
        word
        for found in personal_texts(dataset)
        for spelled in _spellings(found)
        for word in comparable_words(spelled)
        if len(word) >= _LEAST_LETTERS or not word.isascii()
    }
    kept = [
        part
        for part in re.split(r"([\W_]+)", text)
        if is_structure(part)
        or not any(personal.intersection(comparable_words(s)) for s in _spellings(part))
    ]
    found = "".join(kept)
    return found if len(found) == len(text) else re.sub(r"[\W_]+$|^[\W_]+", "", found)


def name_words(text: str) -> list[str]:
    """Split into lower-case words without accents, in which Müller, Muller, Mueller are equal."""
    plain = without_accents(text).casefold().translate(_LETTERS)
    return [_UMLAUT.sub("", word) for word in re.split(r"[\W_]+", plain) if word]


def comparable_words(text: str) -> list[str]:
    """Split as :func:`name_words`, and take double letters for one, as in Weiß, Weiss and Weis."""
    return [_DOUBLE.sub(r"\1", word) for word in name_words(text)]


def without_accents(text: str) -> str:
    """Remove accents from letters."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def _spellings(text: str) -> list[str]:
    """The text, and what it was before UTF-8 was read as Latin-1, which happens without notice."""
    try:
        return [text, text.encode("latin-1").decode("utf-8")] if not text.isascii() else [text]
    except UnicodeError:
        return [text]


def _texts(dataset: Dataset, *, codes: bool = False) -> Iterator[str]:
    wanted = (*IDENTITY, "CodeMeaning") if codes else IDENTITY
    for keyword in wanted:
        try:
            value = dataset.get(keyword) if keyword in dataset else None
            if not value:
                continue
            if keyword in SEQUENCES:
                for item in value:
                    yield from _texts(item, codes=keyword in _CODES)
            else:
                yield str(value)
        except PARSER_ERRORS:
            continue
