"""What is unknown or doubtful in the labels of a training: sparse slices, classes, fillings."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path

from napari_sslseg.core.common.events import Message
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.common.text import count_phrase, join_names
from napari_sslseg.core.samples.store import StoredScan
from napari_sslseg.core.scans.formats.labels.checks import may_be_of_other_patient
from napari_sslseg.core.scans.labelled import LabelledScan, label_file_names
from napari_sslseg.core.scans.matching.other_patient import relation_of_names
from napari_sslseg.core.scans.slices.annotated import are_single_slices
from napari_sslseg.core.scans.slices.ranges import parse_range_ends

LARGE_SHARE = 0.5
"""A class that fills more of the annotated slices than this may mean "unknown"."""

MOST_PAIRS = 3
"""Scans that are listed with their label files in one message."""

MOST_LISTED = 20
"""Classes that are listed in one message."""

Pair = tuple[LabelledScan, StoredScan]


def describe_labels(
    labelled: Sequence[LabelledScan],
    stored: Sequence[StoredScan],
    classes: Sequence[int],
    plane: Plane,
    names: Mapping[int, str],
) -> Iterator[Message]:
    """Say what is unknown in the labels, and what was not said and is doubtful.

    Parameters
    ----------
    labelled : sequence of LabelledScan
        Scans with labels.
    stored : sequence of StoredScan
        Their records, in the same order.
    classes : sequence of int
        Values of the classes.
    plane : {"axial", "coronal", "sagittal"}
        Slicing plane.
    names : mapping of int to str
        Names of the classes, where they have names.
    """
    pairs = list(zip(labelled, stored, strict=True))
    spoken = [names.get(value, f"class {value}") for value in classes]
    yield from _say_pairs(labelled)
    yield from _doubt_patients(labelled)
    yield from _say_classes(pairs, classes, names)
    yield from _say_unknown(pairs)
    yield from _say_hidden(pairs, spoken)
    unsaid = [pair for pair in pairs if pair[0].annotated in (None, "all") and pair[1].counts]
    yield from _doubt_slices([pair for pair in unsaid if pair[0].annotated is None], plane)
    yield from _doubt_classes([p for p in unsaid if p[0].labelled_classes is None], spoken)
    yield from _doubt_filling([pair for pair in unsaid if pair[0].ignore is None], classes)


def _say_pairs(labelled: Sequence[LabelledScan]) -> Iterator[Message]:
    """Say which label file was taken for which scan; the record of the run has all."""
    found = [(item.name, names) for item in labelled if (names := label_file_names(item))]
    pairs = [
        f"{name} ← {files[0]}" + (f" and {len(files) - 1} more files" if len(files) > 1 else "")
        for name, files in found
    ]
    if pairs:
        more = "" if len(pairs) <= MOST_PAIRS else "; the record of the run (data) lists all"
        yield Message(
            f"Labels of {count_phrase(len(pairs), 'scan')} by file: "
            f"{join_names(pairs, MOST_PAIRS)}{more}."
        )


def _doubt_patients(labelled: Sequence[LabelledScan]) -> Iterator[Message]:
    """Name the label files that may be of another patient, so that the run records it."""
    doubtful = []
    for item in labelled:
        files = item.labels if isinstance(item.labels, tuple) else (item.labels,)
        path = item.scan if isinstance(item.scan, Path) else item.scan.path
        for file in files:
            if isinstance(file, Path):
                relation = relation_of_names(file, item.name, path, item.subject)
                if may_be_of_other_patient(file, item.geometry, relation):
                    doubtful.append(f"{file.name} for {item.name}")
    if doubtful:
        yield Message(
            f"{count_phrase(len(doubtful), 'label file')} may be of another patient than the scan, "
            f"by name or by size and place ({join_names(doubtful)}); check this."
        )


def _say_classes(
    pairs: Sequence[Pair], classes: Sequence[int], names: Mapping[int, str]
) -> Iterator[Message]:
    """Say in how many scans and patients each class occurs, so that a wrong value is noticed."""
    counted = [scan for _, scan in pairs if scan.counts]
    patients = len({scan.subject for scan in counted})
    parts = []
    for index, value in enumerate(classes, start=1):
        having = [scan for scan in counted if scan.counts[index]]
        word = f"{names[value]} ({value})" if value in names else f"value {value}"
        subjects = len({scan.subject for scan in having})
        few = "" if subjects == patients else f" ({subjects} of {patients} patients)"
        parts.append(f"{word} in {len(having)} of {len(counted)}{few}")
    if counted and parts:
        more = f"; and {len(parts) - MOST_LISTED} more" if len(parts) > MOST_LISTED else ""
        yield Message(
            f"Labels of {count_phrase(len(counted), 'scan')}: "
            f"{'; '.join(parts[:MOST_LISTED])}{more}."
        )


def _say_unknown(pairs: Sequence[Pair]) -> Iterator[Message]:
    unknown, total = (
        sum(count(scan.counts) for _, scan in pairs) for count in (lambda c: sum(c[-1:]), sum)
    )
    if unknown:
        yield Message(
            f"{unknown / total:.1%} of the voxels on annotated slices are unknown and left out of "
            "the loss and the scores."
        )
    elif pairs and all(
        item.ignore is not None and sum(scan.counts) == prod(item.geometry.display_shape)
        for item, scan in pairs
    ):
        yield Message(
            "No voxel of the labels has the value that means unknown; check --ignore-value (in "
            "Python ignore=)."
        )
    if unknown and not any(scan.counts[0] for _, scan in pairs if scan.counts):
        yield Message(
            "No voxel is known to be background, so the network may find structures everywhere; "
            "label some background as well, and check --background-value (in Python background=)."
        )


def _say_hidden(pairs: Sequence[Pair], spoken: Sequence[str]) -> Iterator[Message]:
    for index, name in enumerate(spoken, start=1):
        lacking = [scan.name for _, scan in pairs if index in scan.hidden]
        if lacking:
            yield Message(
                f"Not labelled in {len(lacking)} of {len(pairs)} scans ({join_names(lacking)}), "
                f"so perhaps in their background: {name}."
            )


def _doubt_slices(pairs: Sequence[Pair], plane: Plane) -> Iterator[Message]:
    """Say that most labels are on single slices, as if only these were annotated."""
    sparse, shown = [], 0
    for item, scan in pairs:
        shape = item.geometry.display_shape
        slices = shape[PLANE_AXIS[plane]]
        # Unknown slices are not taught as background.
        count = sum(scan.counts[:-1]) * slices // prod(shape)
        ranges = parse_range_ends(scan.shown, slices) if scan.shown else []
        with_labels = sum(last - first + 1 for first, last in ranges)
        shown += bool(ranges)
        if are_single_slices(with_labels, len(ranges), count):
            sparse.append(f"{with_labels} of {count} in {scan.name}")
    if sparse and 2 * len(sparse) >= shown:
        yield Message(
            f"The labels of {len(sparse)} of {len(pairs)} scans are on single slices with empty "
            f"slices beside them ({join_names(sparse)}). The empty slices are taught as "
            "background. If only slices with labels are annotated, give --annotated labelled (in "
            'Python annotated="labelled"); if all are, --annotated all says so.'
        )


def _doubt_classes(pairs: Sequence[Pair], spoken: Sequence[str]) -> Iterator[Message]:
    """Say which classes occur in some of the scans only."""
    found = []
    empty = [scan.name for _, scan in pairs if not any(scan.counts[1 : len(spoken) + 1])]
    if empty:
        yield Message(
            f"No class is labelled in {len(empty)} of {len(pairs)} label files "
            f"({join_names(empty)}), so the network learns that nothing is there. If that is "
            "wrong, leave these files out, or use their scans with --unlabelled (in Python "
            "unlabelled=)."
        )
    pairs = [pair for pair in pairs if pair[1].name not in empty]
    for index, name in enumerate(spoken, start=1):
        lacking = [scan.name for _, scan in pairs if not scan.counts[index]]
        if lacking and len(lacking) < len(pairs):
            occurs = len(pairs) - len(lacking)
            found.append(f"{name} in {occurs} of {len(pairs)} (not in {join_names(lacking)})")
    if found and len(spoken) > 1:
        yield Message(
            f"Some classes occur in only some of the label files: {'; '.join(found[:5])}"
            f"{' and others' if len(found) > 5 else ''}. If a scan does not have them labelled, "
            "say so with --labelled-classes FILE (in Python labelled_classes=); else the network "
            "learns that they are not there."
        )


def _doubt_filling(pairs: Sequence[Pair], classes: Sequence[int]) -> Iterator[Message]:
    """Say that the class of the largest value fills most of the annotated slices."""
    if len(classes) < 2 or not pairs:
        return
    index = max(range(len(classes)), key=lambda number: classes[number])
    filled = sum(scan.counts[1 + index] for _, scan in pairs)
    share = filled / max(1, sum(sum(scan.counts) for _, scan in pairs))
    if share > LARGE_SHARE:
        value = classes[index]
        yield Message(
            f"The value {value} fills {share:.0%} of the annotated slices. If it means that the "
            f"class is unknown there, give --ignore-value {value} (in Python ignore={value})."
        )
