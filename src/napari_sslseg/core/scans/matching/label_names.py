"""Words for labels in the names of files, and names of labels that match those of scans."""

import re
from collections.abc import Sequence
from pathlib import Path

from napari_sslseg.core.scans.classes.class_codes import is_structure
from napari_sslseg.core.scans.names import scan_name

_WORDS = (
    r"(?:[a-z]*(?:segs?|segmentations?|segmentierung(?:en)?|segmented|masks?|masken?)"
    r"|labels?|labels(?:tr|ts|val)|labelled|msk"
    r"|annotations?|groundtruth|gt)"
)
_LABEL_WORDS = re.compile(rf"(?:^|[\W_\d]){_WORDS}(?:$|[\W_\d])", re.IGNORECASE)
_ONE_WORD = re.compile(rf"\d*{_WORDS}\d*", re.IGNORECASE)
_SCAN_WORD = re.compile(r"images?|imaging|img|volume|vol|scan|orig|raw")


def structure_names(paths: Sequence[Path]) -> list[str]:
    """Return the structures of several files that contain one each, by their names.

    Parts of the names that name the scan are left out: those of a folder around, or those with a
    number that all names begin with.
    """
    owners = [folder.name for path in paths[:1] for folder in list(path.absolute().parents)[:3]]
    names = [structure_name(path, *owners) for path in paths]
    split = [_split(name) for name in names]
    shared = 0
    while len({tuple(parts[: shared + 1]) for parts in split}) == 1 < len(split):
        shared += 1
    case = split[0][:shared]
    if any(char.isdigit() for part in case for char in part):
        last = max(n for n, part in enumerate(case) if any(char.isdigit() for char in part))
        names = ["_".join(parts[last + 1 :]) for parts in split]
    return [name or scan_name(path) for name, path in zip(names, paths, strict=True)]


def has_label_words(name: str) -> bool:
    """Return whether a name contains a word like seg, mask or labels."""
    return _LABEL_WORDS.search(name) is not None


def has_label_name(path: Path) -> bool:
    """Return whether the name of a file, or of its folder, is typical of labels.

    Such names contain words like seg, mask or labels (also in folders such as ``labelsTr``), or
    consist of the name of an organ, such as ``kidney_left``. Scans may have such names too, so the
    name alone is not sufficient.
    """
    name = scan_name(path)
    return bool(
        _LABEL_WORDS.search(name) or _LABEL_WORDS.search(path.absolute().parent.name)
    ) or is_structure(name)


def is_named_as_labels(path: Path, root: Path) -> bool:
    """Return whether a file among scans has a name of labels.

    The folder that holds scans and labels says nothing, whatever its name.
    """
    if path.absolute().parent == root.absolute():
        return has_label_words(scan_name(path)) or is_structure(scan_name(path))
    return has_label_name(path)


def count_matching_parts(labels: str, scan: str) -> int:
    """Count the parts of a label name that match the name of a scan; 0 for another scan.

    Words for labels are ignored, and so are the channel number of nnU-Net and words like "volume"
    in the name of the scan. The matching parts must not be followed by a number, which would belong
    to another scan.

    Examples
    --------
    >>> count_matching_parts("liver_01-seg", "liver_01")
    2
    >>> count_matching_parts("liver_01_2_seg", "liver_01")
    0
    >>> count_matching_parts("segmentation-12", "volume-12")
    1
    """
    whole = _split(scan)
    channel = len(whole) > 1 and re.fullmatch(r"\d{4}", whole[-1])
    if channel and without_label_words(labels) == whole[:-1]:
        return len(whole) - 1
    for parts in (_split(labels), without_label_words(labels)):
        after = parts[len(whole) :]
        if whole and parts[: len(whole)] == whole and not (after and after[0].isdigit()):
            return len(whole)
    bare = _bare(labels, _ONE_WORD)
    return len(bare) if any(map(str.isdigit, bare)) and bare == _bare(scan, _SCAN_WORD) else 0


def is_of_case(labels: str, scan: str) -> bool:
    """Return whether labels are of the case of a scan, which may have several scans.

    The name of the scan continues that of the labels: by a sequence, a channel or a frame.

    Examples
    --------
    >>> is_of_case("BraTS_007_seg", "BraTS_007_t1ce"), is_of_case("BraTS_00", "BraTS_007_t1ce")
    (True, False)
    """
    case, whole = without_label_words(labels), _split(scan)
    return 0 < len(case) < len(whole) and whole[: len(case)] == case


def ends_with_parts(name: str, ending: str) -> bool:
    """Return whether the last parts of a name are those of another one: ``case_1_T1w``, ``t1w``."""
    parts = _split(ending)
    return bool(parts) and _split(name)[-len(parts) :] == parts


def structure_name(path: Path, *owners: str) -> str:
    """Return the structure in the name of a file that contains one structure.

    Parameters
    ----------
    path : Path
        The file.
    *owners : str
        Names of the scan, the case or the patient, which are left out.

    Returns
    -------
    str
        Empty if nothing is left, as in ``case_1_seg``.

    Examples
    --------
    >>> structure_name(Path("case_1_kidney_left-mask.nii.gz"), "case_1")
    'kidney_left'
    """
    parts = without_label_words(scan_name(path))
    for owner in owners:
        own = _split(owner)
        if own and parts[: len(own)] == own:
            parts = parts[len(own) :]
    return "_".join(parts)


def without_label_words(name: str) -> list[str]:
    """Split a name into its parts, without words for labels.

    Examples
    --------
    >>> without_label_words("Liver_01-seg")
    ['liver', '01']
    """
    return [part for part in _split(name) if not _ONE_WORD.fullmatch(part)]


def _bare(name: str, words: re.Pattern[str]) -> list[str]:
    """Split a name into words and numbers, without some words: img0012 and label0012 are 0012."""
    return [
        part for part in re.findall(r"\d+|[^\W\d_]+", name.lower()) if not words.fullmatch(part)
    ]


def _split(name: str) -> list[str]:
    return [part for part in re.split(r"[\W_]+", name.lower()) if part]
