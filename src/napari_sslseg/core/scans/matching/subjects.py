"""Guess which scans are of one patient, from the names of all their files together.

One name alone does not tell: ``genius_0701`` is a patient in a folder with ``genius_0700`` to
``genius_0799``, and a time point of a patient beside ``genius_0700``, ``genius_0800`` and
``genius_0801``. The rule is therefore about the whole set of names, in this order:

1. A BIDS entity ``sub-…`` in the name, or else in a folder, is the patient.
2. Words at the end that name a sequence, phase, view, side, visit or date are left out, as in
   ``P01_T2w``, ``P01_V2``, ``P01_baseline``, ``P01_frame01``.
3. A name without more than such words (``ct``), or one that occurs in the folder of each patient,
   stands for its folder: ``s0000/ct`` is ``s0000``. So does any name in folders with a number each
   and a few files.
4. A number after another number (``liver_001_0002``) is a channel, a visit or a frame, and the rest
   is the patient, if several scans share the rest. It is the number of the patient instead if the
   rest is the same in all names, is a site (``site1_0001``), or if the numbers run on across the
   different rests (``TCGA-02-0003``, ``TCGA-06-0119``).
5. A single number (``genius_0700``) is split if its first digits occur with the last digits 0, 1,
   2 … or 1, 2, … each time, and the numbers leave gaps; else it is the patient.

Where two readings are possible, the one with fewer patients is taken, since scans of one patient in
training and validation make scores too high without a sign; a ``doubt`` says so. The exceptions are
readings by which a patient would have more than a dozen scans.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from napari_sslseg.core.common.text import count_phrase, fold_name
from napari_sslseg.core.scans.formats.registry import all_suffixes
from napari_sslseg.core.scans.names import scan_name

MOST_SCANS = 12
"""Scans of a patient that only the last number of the name distinguishes."""

_SEPARATOR = r"[_\-. ]+"
_SEQUENCES = (
    r"t1(?:w|n|c|ce|gd|km|post|dual)?|t2(?:w|f|s|star|spir)?|flair|pdw?|dwi|adc|dti|swi|bold|asl"
    r"|cbf|dce|mprage|tof|mra|mri?|cta?|ctp|cect|ncct|cbct|pet|b\d+|bssfp|lge|dixon|water|fat"
)
_FRAMES = r"(?:frame|phase|echo)[_\-. ]?\d+"
_PHASES = (
    r"pre|post|native|nc|arterial|art|venous|portal|pvp?|delayed|hbp|ed|es|4d|inphase|outphase"
    rf"|{_FRAMES}"
)
_VIEWS = r"sax?|lax?|[234]ch|ax|axial|tra|cor|coronal|sag|sagittal|left|right"
_STEPS = (
    r"image|images|imaging|img|scan|volume|norm|n4|bet|brain|pp|preproc|resampled|registered|reg"
    r"|cropped|iso|orig|raw|nii|nifti|dicom|anat|func|data"
)
_VISITS = (
    r"(?:tp|visit|ses|session|timepoint|time|followup|fu|month|day|week|year|run)[_\-. ]?\d+"
    r"|baseline|follow-?up|fu|(?:pre|post)[_\-]?op"
)
# After a patient without a number these may be the patient: volunteers v01, v02, …
_WEAK = r"v\d{1,2}|m\d{1,2}|t\d|scan\d+|mr\d|l|r|bl"
_DATE = (
    r"(?:(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])"
    r"(?:[T_\-]?\d{4}(?:\d\d)?)?|(?:0[1-9]|[12]\d|3[01])[-_.](?:0[1-9]|1[0-2])[-_.](?:19|20)\d\d)"
)
_WORDS = "|".join((_SEQUENCES, _PHASES, _VIEWS, _STEPS, _VISITS))
_AT_END = re.compile(rf"{_SEPARATOR}(?:{_WORDS})$", re.IGNORECASE)
_SEQUENCE_AT_END = re.compile(rf"{_SEPARATOR}(?:{_SEQUENCES})$", re.IGNORECASE)
_WEAK_AT_END = re.compile(rf"{_SEPARATOR}(?:{_WEAK}|{_DATE})$", re.IGNORECASE)
_LEADING = re.compile(
    rf"(?:{_SEQUENCES}|{_PHASES}|{_VIEWS}|{_VISITS}){_SEPARATOR}(?=.*\d)"
    # What may be the patient itself leads only before a word for patients; a date, before a name.
    rf"|(?:{_WEAK}|{_DATE}){_SEPARATOR}(?=(?:p|pat|patient|s|sub|subj|subject|case)[_\- ]?\d)"
    rf"|{_DATE}{_SEPARATOR}(?=[^\W\d_]{{2}})",
    re.IGNORECASE,
)
_ONLY_WORDS = re.compile(
    rf"(?:{_WORDS}|{_WEAK}|{_DATE})(?:{_SEPARATOR}(?:{_WORDS}|{_WEAK}|{_DATE}))*", re.IGNORECASE
)
_FOLDER_WORDS = re.compile(
    rf"(?:images?|labels?|scans?|nn_?unet)?(?:tr|ts|va|val)|train(?:ing)?|test(?:ing)?|images?|scans"
    rf"|(?:{_ONLY_WORDS.pattern})(?:{_SEPARATOR}\d+)?",
    re.IGNORECASE,
)
# Folders within that of each patient, but only if several patients have them.
_EXAMS = re.compile(
    rf"(?:exam(?:ination|en)?|untersuchung|aufnahme|kontrolle|verlauf|termin|besuch)[_\-. ]?\d*"
    rf"|(?:vor|nach|pr(?:ae|ä)|post|pre|before|after)[_\-. ]?(?:op|surgery|treatment|therapie|rt)"
    rf"|(?:19|20)\d\d|{_VISITS}",
    re.IGNORECASE,
)
_SITES = re.compile(
    r"(?<![a-z])(?:(?:site|cent(?:er|re)|hospital|clinic|scanner|vendor|cohort|group|fold|batch|part"
    r"|set|split|year|study|dataset|task|oas|ixi)[_\-]?(?:\d*|[a-z])"
    r"|(?:train(?:ing)?|test(?:ing)?|val(?:idation)?)[_\-]?\d?|(?<!\d)\d{3}_S)$",
    re.IGNORECASE,
)
_MOMENTS = [
    re.compile(group, re.IGNORECASE) for group in (r"ed|es", r"pre|post", _FRAMES, _VISITS, _DATE)
]
"""Words for moments at which a patient was imaged; two of a group exclude each other."""

_BIDS = re.compile(r"sub-[A-Za-z0-9]+(?=[_.]|$)")
_AGAIN = re.compile(r"(.*\d)[_\-. ]+\d{1,2}|(.+?)[_\-. ]*\(\d{1,2}\)")
_LETTER = re.compile(r"(.*\d)[_\-]?([a-hlr])", re.IGNORECASE)
_OTHER_WORD = re.compile(r"(.*\d)[_\- ]+(?=[^_\- ]*[^\W\d_])[^_\- ]+")
_NUMBER = re.compile(r"\d+")
_YEAR = re.compile(r"(19|20)\d\d")


@dataclass(frozen=True)
class SubjectGuess:
    """Who is one patient, as guessed from names.

    Attributes
    ----------
    subjects : tuple of str
        The patient of each scan, in the order given.
    doubts : tuple of str
        What else the names could mean, in one sentence for each kind of name.
    """

    subjects: tuple[str, ...]
    doubts: tuple[str, ...] = ()


def guess_subjects(paths: Iterable[str | PurePath]) -> SubjectGuess:
    """Guess the patients of scans from the names of all of them; see the module for the rule.

    Parameters
    ----------
    paths : iterable of path-like
        Files of the scans with their folders, or names of scans. Nothing is read.

    Examples
    --------
    >>> guess_subjects(["genius_0700", "genius_0701", "genius_0800", "genius_0801"]).subjects
    ('genius_07', 'genius_07', 'genius_08', 'genius_08')
    >>> guess_subjects(["site1_0001", "site1_0002", "site1_0003"]).subjects
    ('site1_0001', 'site1_0002', 'site1_0003')
    """
    places = [PurePath(path) for path in paths]
    found = {n: bids[0] for n, place in enumerate(places) if (bids := _BIDS.match(place.name))}
    inside = {
        n: bids[0]
        for n, place in enumerate(places)
        for part in place.parts[:-1]
        if (bids := _BIDS.match(part))
    }
    if len(set(inside.values())) > 1:  # Otherwise it may be a folder far above all scans.
        found = inside | found
    rest = [number for number in range(len(places)) if number not in found]
    keys, doubts = _names_or_folders([places[number] for number in rest])
    known = {key: key for key in keys}
    steps = (
        _without_case,
        _without_letters,
        _without_counts,
        _without_first_words,
        _without_last_words,
        _without_other_words,
        _without_numbers,
    )
    for step in steps * 2:
        shorter, more = step(sorted(set(known.values())))
        known = {key: shorter.get(value, value) for key, value in known.items()}
        doubts += more
    found |= {number: known[key] for number, key in zip(rest, keys, strict=True)}
    return SubjectGuess(
        tuple(found[number] for number in range(len(places))), tuple(dict.fromkeys(doubts))
    )


def guess_subject(name: str | PurePath) -> str:
    """Guess the patient of a single scan, whose name is all that is known.

    This is right for a name that says it, such as ``sub-01_T1w`` or ``SC-HYP-01_ED``. For several
    scans use :func:`guess_subjects`.
    """
    return guess_subjects([name]).subjects[0]


def ends_with_sequence(name: str) -> bool:
    """Return whether a name ends with a word for a sequence, such as ``T2w`` or ``flair``."""
    return _SEQUENCE_AT_END.search(name) is not None


def describe_subjects(
    subjects: Sequence[str], doubts: Iterable[str] = (), known: Collection[str] = ()
) -> str:
    """Describe how many patients there are, and what is in doubt, in short sentences.

    Parameters
    ----------
    subjects : sequence of str
        The patient of each scan.
    doubts : iterable of str
        Sentences of :class:`SubjectGuess`.
    known : collection of str
        Patients that a header or the user names, which nothing has to be assumed about.
    """
    scans, patients = len(subjects), len(set(subjects))
    guessed = len(set(subjects) - set(known))
    text = f"{count_phrase(scans, 'scan')} of {count_phrase(patients, 'patient')}"
    if guessed and scans > 1 and patients == 1:
        text += ": all scans are taken for one patient"
    elif guessed and scans > 1 and patients == scans:
        which = "each scan" if guessed == patients else "each scan whose file names no patient"
        text += f": {which} is taken for a patient of its own"
    return " ".join([f"{text}.", *doubts])


def _names_or_folders(places: Sequence[PurePath]) -> tuple[list[str], list[str]]:
    """Choose what names the patient: the file or its folder; return doubts as well."""
    names = [_shorten(_stem(place)) for place in places]
    folders = _patient_folders(places)
    doubts: list[str] = []
    if _are_patient_folders(places, folders):
        return [_shorten(folder.name) if folder else "" for folder in folders], doubts
    keys = list(names)
    for number, (name, folder) in enumerate(zip(names, folders, strict=True)):
        if folder is not None and _ONLY_WORDS.fullmatch(name):
            keys[number] = _shorten(folder.name)
    homes: dict[str, set[PurePath | None]] = defaultdict(set)
    for name, folder in zip(names, folders, strict=True):
        homes[name].add(folder)
    again = [n for n, name in enumerate(names) if len(homes[name]) > 1 and keys[n] == name]
    if again:
        several = {folder for number in again if (folder := folders[number]) is not None}
        different = {names[n] for n, folder in enumerate(folders) if folder in several}
        # As many folders as names, side by side: each patient has the same files.
        as_patients = len({folder.parent for folder in several}) == 1 and len(several) >= len(
            different
        )
        as_sites = any(_SITES.search(folder.name) for folder in several)
        meaning = "the name is taken for one patient"
        if as_sites:
            meaning = "each is taken for another patient"
        elif as_patients:
            meaning = "the folder is taken for the patient"
        for number in again:
            folder = folders[number]
            if folder is not None and as_sites:
                keys[number] = f"{folder.name}/{names[number]}"
            elif folder is not None and as_patients:
                keys[number] = _shorten(folder.name)
        doubts.append(f"Several folders contain {places[again[0]].name}, and {meaning}.")
    return keys, doubts + _qualify(places, keys, folders)


def _are_patient_folders(places: Sequence[PurePath], folders: Sequence[PurePath | None]) -> bool:
    """Whether each folder is a patient: several with a number each, with a few files."""
    homes = set(folders)
    names = [folder.name for folder in homes if folder is not None]
    return (
        1 < len(homes) == len(names)
        and len({_shorten(name) for name in names}) == len(names)
        and all(any(char.isdigit() for char in name) for name in names)
        and not any(_SITES.search(name) or _YEAR.fullmatch(name) for name in names)
        and len(places) <= MOST_SCANS * len(homes)
    )


def _qualify(
    places: Sequence[PurePath], keys: list[str], folders: Sequence[PurePath | None]
) -> list[str]:
    """Distinguish folders of the same name within different ones: a/001/ct and b/001/ct."""
    homes: dict[str, set[PurePath]] = defaultdict(set)
    for place, key, folder in zip(places, keys, folders, strict=True):
        if folder is not None and key != _shorten(_stem(place)):
            homes[key].add(folder)
    doubts: list[str] = []
    for number, (key, folder) in enumerate(zip(keys, folders, strict=True)):
        if folder is None or len(homes.get(key, ())) < 2 or "/" in key:
            continue
        parents = {home.parent.name for home in homes[key]}
        if any(_SITES.search(parent) for parent in parents):
            keys[number] = f"{folder.parent.name}/{key}"
        if not doubts and any(home.name == folder.name for home in homes[key] - {folder}):
            same = "two patients" if "/" in keys[number] else "one patient"
            doubts.append(f"Folders named {folder.name} in different folders are taken for {same}.")
    return doubts


def _patient_folder(place: PurePath) -> PurePath | None:
    """Return the nearest folder whose name is not that of a kind of files or a visit."""
    for folder in place.parents:
        if folder.name and not _FOLDER_WORDS.fullmatch(folder.name):
            return folder
    return None


def _patient_folders(places: Sequence[PurePath]) -> list[PurePath | None]:
    """Return the folder that may be the patient of each scan.

    A folder such as ``2019`` in several other folders is an examination: ``Meier/2019`` and
    ``Schulz/2019``. Alone it may be the name of a patient, as in ``exam_001``.
    """
    folders = [_patient_folder(place) for place in places]
    homes: dict[str, set[PurePath]] = defaultdict(set)
    for folder in folders:
        if folder is not None and _EXAMS.fullmatch(folder.name):
            homes[folder.name.casefold()].add(folder)
    if all(len(group) == 1 for group in homes.values()):
        return folders
    exams = set().union(*homes.values())
    return [(_patient_folder(f) or f) if f is not None and f in exams else f for f in folders]


def _stem(place: PurePath) -> str:
    """Return the name without the suffix of a format; other dots belong to the name."""
    known = place.name.lower().endswith(all_suffixes())
    return scan_name(place.name) if known else place.name


def _shorten(name: str) -> str:
    """Leave out words at the end that never name a patient."""
    while (shorter := _AT_END.sub("", name)) != name and shorter:
        name = shorter
    return name


def of_other_moments(one: str, other: str) -> bool:
    """Return whether two names of a patient say that they are of different phases or visits.

    Examples
    --------
    >>> of_other_moments("P01_ED", "P01_ES"), of_other_moments("P01_ED", "P01_seg")
    (True, False)
    """
    parts = [re.split(_SEPARATOR, name.casefold()) for name in (one, other)]
    for group in _MOMENTS:
        first, second = ({part for part in words if group.fullmatch(part)} for words in parts)
        if first and second and first.isdisjoint(second):
            return True
    return False


Step = tuple[Mapping[str, str], list[str]]
"""Shorter names by name, and what is doubtful about them."""


def _without_last_words(keys: Sequence[str]) -> Step:
    """Leave out words at the end, and visits and dates if different patients remain."""
    shorter = {key: _shorten(key) for key in keys}
    for key, value in shorter.items():
        weak = _WEAK_AT_END.sub("", value)
        if weak and weak != value:
            shorter[key] = _shorten(weak)
    remain = {shorter[key] for key in keys if shorter[key] != _shorten(key)}
    if len(remain) == 1 and not any(char.isdigit() for char in min(remain)):
        # Volunteers v01, v02, …, or one patient several times.
        return {key: _shorten(key) for key in keys}, []
    return shorter, []


def _without_case(keys: Sequence[str]) -> Step:
    """Join names that differ by case or the encoding of accents: P01 and p01."""
    groups: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        groups[fold_name(key)].append(key)
    joined = {key: group[0] for group in groups.values() if len(group) > 1 for key in group}
    if not joined:
        return {}, []
    first, second = next(group for group in groups.values() if len(group) > 1)[:2]
    return joined, [_merged(first, second, "only case or the encoding of accents differs")]


def _without_letters(keys: Sequence[str]) -> Step:
    """Join names that differ by the letter after a number: P01a and P01b."""
    groups: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        found = _LETTER.fullmatch(key)
        if found:
            groups[found.group(1)].append(key)
    joined = {
        key: stem
        for stem, group in groups.items()
        if len(group) > 1
        and "".join(sorted(key[-1].lower() for key in group)) in ("abcdefgh"[: len(group)], "lr")
        for key in group
    }
    if not joined:
        return {}, []
    first, second = sorted(joined)[:2]
    return joined, [_merged(first, second, "only the last letter differs")]


def _without_counts(keys: Sequence[str]) -> Step:
    """Join names that are another name with a number: P01 and P01_2, or P01 (2)."""
    joined: dict[str, str] = {}
    for key in keys:
        found = _AGAIN.fullmatch(key)
        whole = (found.group(1) or found.group(2)) if found else ""
        if whole in keys:
            joined[key] = joined.get(whole, whole)
    if not joined or max(Counter(joined.values()).values()) >= MOST_SCANS:
        return {}, []
    first = min(joined)
    return joined, [_merged(joined[first], first, "only a number at the end differs")]


def _without_other_words(keys: Sequence[str]) -> Step:
    """Join names that differ by an unknown word after the same number: P01_xy and P01_a1."""
    groups: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        found = _OTHER_WORD.fullmatch(key)
        groups[found.group(1) if found else key].append(key)
    heads = [head for head in groups if head[-1:].isdigit() and not _ONLY_WORDS.fullmatch(head)]
    if len(heads) < 2 or any(_SITES.search(h) or _YEAR.fullmatch(h) for h in heads):
        return {}, []
    joined = {
        key: head for head in heads if 1 < len(groups[head]) <= MOST_SCANS for key in groups[head]
    }
    if not joined:
        return {}, []
    first, second = next(groups[head] for head in heads if len(groups[head]) > 1)[:2]
    return joined, [_merged(first, second, "only the word at the end differs")]


def _without_first_words(keys: Sequence[str]) -> Step:
    """Join names that differ by a leading sequence or visit: T1_007 and T2_007."""
    groups: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        if _LEADING.match(key):
            groups[_LEADING.sub("", key, count=1)].append(key)
    joined = {key: rest for rest, group in groups.items() if len(group) > 1 for key in group}
    if not joined:
        return {}, []
    first = min(joined)
    second = next(key for key in sorted(joined) if key != first and joined[key] == joined[first])
    return joined, [_merged(first, second, "only the beginning differs")]


def _without_numbers(keys: Sequence[str]) -> Step:
    """Leave out the last number, or its last digits, where it counts the scans of a patient."""
    families: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        if key[-1:].isdigit():
            families[_NUMBER.sub("#", key)].append(key)
    shorter: dict[str, str] = {}
    doubts: list[str] = []
    for family in families.values():
        found, more = _family_without_numbers(family)
        shorter |= found
        doubts += more
    return shorter, doubts


def _family_without_numbers(keys: Sequence[str]) -> Step:
    """Decide what the last number means in names that differ by numbers alone."""
    parts = {key: re.fullmatch(r"(.*?)([_\-. ]?)(\d+)", key) for key in keys}
    split = {key: (part[1], part[2], part[3]) for key, part in parts.items() if part is not None}
    groups = _grouped((head, key) for key, (head, _, _) in split.items())
    heads = [str(head) for head in groups]
    tails = [number for _, _, number in split.values()]
    site = any(_SITES.search(head) for head in heads)
    if len(heads) == 1 and not site and _is_channels(keys, heads[0], tails):
        first, last = min(keys), max(keys)
        doubt = [_merged(first, last, "only the number at the end differs")]
        return dict.fromkeys(keys, heads[0]), doubt if len(keys) > 1 else []
    if len(heads) == 1:
        return _without_digits({key: number for key, (_, _, number) in split.items()})
    if all(len(group) == 1 for group in groups.values()):
        # Channel 0000 of each case, or the first visit: a part of no name.
        constant = len(set(tails)) == 1 and all(separator for _, separator, _ in split.values())
        return ({key: split[key][0] for key in keys} if constant else {}), []
    first, second = max(groups.values(), key=len)[:2]
    runs_on = len(set(tails)) == len(tails) and 2 * len(heads) < len(tails)
    if site or runs_on or len(max(groups.values(), key=len)) > MOST_SCANS:
        return {}, [
            f"Scans such as {first} and {second} are taken for two patients: the number at the end "
            "is taken for that of the patient."
        ]
    counts = {tuple(sorted(int(split[key][2]) for key in group)) for group in groups.values()}
    channels = (
        all(len(number) == 4 for number in tails)
        and len(counts) == 1
        and min(counts) == tuple(range(len(min(counts))))
    )
    doubts = [] if channels else [_merged(first, second, "only the number at the end differs")]
    return {key: head for key, (head, _, _) in split.items()}, doubts


def _is_channels(keys: Sequence[str], head: str, tails: Sequence[str]) -> bool:
    """Whether names of one stem are the channels of nnU-Net: liver_001_0000, liver_001_0001, …"""
    return (
        re.search(r"[_\-]\d+$", head) is not None
        and all(re.search(r"_\d{4}$", key) for key in keys)
        and max(map(int, tails)) < MOST_SCANS
        and (len(tails) == 1 or sorted(map(int, tails)) == list(range(len(tails))))
    )


def _without_digits(numbers: Mapping[str, str]) -> Step:
    """Split a number into patient and scan if its last digits count from 0 or 1 each time."""
    widths = {len(number) for number in numbers.values()}
    if len(widths) != 1:
        return {}, []
    for count in reversed(range(1, min(widths))):
        groups = _grouped((number[:-count], key) for key, number in numbers.items())
        ends = [sorted(int(numbers[key][-count:]) for key in group) for group in groups.values()]
        start = min(end[0] for end in ends)
        several = [end for end in ends if len(end) > 1]
        counted = start <= 1 and all(end == list(range(start, start + len(end))) for end in ends)
        gaps = all(end[-1] + 1 < 10**count for end in ends)
        if counted and gaps and len(several) > 1 and 2 * len(several) > len(ends):
            first, second = next(group for group in groups.values() if len(group) > 1)[:2]
            return (
                {key: key[:-count] for key in numbers},
                [_merged(first, second, "their numbers begin alike and count up")],
            )
    return {}, []


def _grouped(pairs: Iterable[tuple[Hashable, str]]) -> dict[Hashable, list[str]]:
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for value, key in sorted(pairs, key=str):
        groups[value].append(key)
    return groups


def _merged(first: str, second: str, reason: str) -> str:
    return f"Scans such as {first} and {second} are taken for one patient: {reason}."
