"""Match the classes of predictions with those of their truths."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from napari_sslseg.core.results.compared_labels import Labels, are_files, label_values
from napari_sslseg.core.results.truth_options import TruthOptions
from napari_sslseg.core.scans.classes.class_map import ClassMapLike
from napari_sslseg.core.scans.classes.matching import (
    ClassMatch,
    LabelFile,
    match_segments,
    why_no_class,
)
from napari_sslseg.core.scans.classes.read import read_segments
from napari_sslseg.core.scans.classes.renumber import values_in
from napari_sslseg.core.scans.classes.segment import Segment, is_placeholder
from napari_sslseg.core.scans.labels import load_labels
from napari_sslseg.core.scans.matching.label_guess import refuse_scan


def match_compared(
    pairs: Sequence[tuple[Labels, Labels]], class_map: ClassMapLike, said: TruthOptions
) -> ClassMatch:
    """Match the classes of predictions and truths: two entries of ``values`` for each pair."""
    if class_map is None and any(_has_no_names(labels) for pair in pairs for labels in pair):
        return ClassMatch({}, (None,) * 2 * len(pairs))
    # Predictions first, since they have the values of the run.
    roles = ("prediction", "truth")
    others: tuple[set[int], set[int]] = set(), {v for v in (said.ignore, said.background) if v}
    files = [
        _label_file(pair[n], role, others[n]) for n, role in enumerate(roles) for pair in pairs
    ]
    match = match_segments(files, class_map)
    both = zip(match.values[: len(pairs)], match.values[len(pairs) :], strict=True)
    return replace(match, values=tuple(values for pair in both for values in pair))


def named_classes(truth: Labels, values: Mapping[int, int] | None) -> tuple[int, ...] | None:
    """Return the classes that the file of a truth names; None if it names none.

    Parameters
    ----------
    truth : Volume, Prediction, ndarray or path-like
        The truth.
    values : mapping of int to int, optional
        Class of each of its values, see :class:`ClassMatch`.
    """
    if values is None or not are_files(truth):
        return None
    listed = [item for item in read_segments(truth) if not is_placeholder(item.name)]
    return tuple({values[item.value] for item in listed if values.get(item.value)}) or None


def _has_no_names(labels: Labels) -> bool:
    """Whether labels are in memory and cannot have names."""
    return not are_files(labels) and getattr(labels, "class_names", None) is None


def _label_file(labels: Labels, role: str, others: Collection[int]) -> LabelFile:
    """Labels with the names of their structures, without ``others``, which are no structures."""
    if are_files(labels):
        path = Path(labels[0] if isinstance(labels, tuple) else labels)
        first = path.absolute()
        name = f"{first.parent.name}/{first.name}"
        if isinstance(labels, tuple):
            name = f"{first.parent.parent.name}/{first.parent.name}"
        segments = tuple(item for item in read_segments(labels) if item.value not in others)
        if role == "prediction":
            # The list of a folder of predictions may name them, but no network predicts them.
            segments = tuple(item for item in segments if not why_no_class(item, name))

        def read_values() -> list[int]:
            data = load_labels(labels).data
            values = values_in(data)
            refuse_scan(data, len(values), f"The {role} {name}")
            return [value for value in values if value not in others]

        return LabelFile(name, segments, read_values, path, role)
    names = getattr(labels, "class_names", None) or {}
    segments = tuple(Segment(value, name) for value, name in names.items() if value not in others)
    return LabelFile(
        f"the {role}",
        segments,
        lambda: [v for v in values_in(label_values(labels, role)[0]) if v not in others],
        role=role,
    )
