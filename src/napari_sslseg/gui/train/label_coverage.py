"""Which structures the patients of a training have, and what the scores cannot cover. No Qt."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.common.text import join_names
from napari_sslseg.core.project.label_files import file_state
from napari_sslseg.core.scans.classes.renumber import values_in
from napari_sslseg.core.scans.volume import take_slices

if TYPE_CHECKING:
    from napari_sslseg.core.common.sizes import Plane
    from napari_sslseg.core.project.project import LabelledSplit, Project

MOST_NAMES = 3

Labelled = Mapping[str, frozenset[int]]
"""Classes on the done slices of each patient."""


class DoneClasses:
    """The classes on the done slices of scans. Reads a label file again only if it changed."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[object, frozenset[int]]] = {}

    def by_patient(self, project: "Project", scans: Iterable[str]) -> dict[str, frozenset[int]]:
        """Classes on the done slices of each patient of these scans."""
        found: dict[str, frozenset[int]] = {}
        for name in scans:
            subject = project.entry(name).subject
            found[subject] = found.get(subject, frozenset()) | self._of_scan(project, name)
        return found

    def _of_scan(self, project: "Project", name: str) -> frozenset[int]:
        done, plane = project.done(name), project.plane
        listed = project.labelled_classes(name)
        state = (done, plane, listed, file_state(project.labels_path(name)))
        key = (str(project.folder), name)
        if key not in self._found or self._found[key][0] != state:
            values = _values(project, name, done, plane)
            labelled = values if listed is None else values.intersection(listed)
            self._found[key] = state, frozenset(labelled)
        return self._found[key][1]


def _values(project: "Project", name: str, done: Sequence[int], plane: "Plane") -> set[int]:
    if not done:
        return set()
    data = project.labels(name, seen=False).data
    return set(values_in(take_slices(data, np.asarray(done), PLANE_AXIS[plane])))


def coverage_sentences(
    project: "Project", split: "LabelledSplit", classes: DoneClasses
) -> list[str]:
    """Say which structures cannot be learnt, or have no score, because too few patients have them.

    Parameters
    ----------
    project : Project
    split : LabelledSplit
        Its training and validation scans.
    classes : DoneClasses
        Finds the classes on done slices; it reads label files.
    """
    training, validation = (
        classes.by_patient(project, [item.name for item in part])
        for part in (split.training, split.validation)
    )
    tests = [scan.name for scan in project.record.scans if scan.role == "test" and scan.done]
    return describe_coverage(
        project.class_names, training, validation, classes.by_patient(project, tests)
    )


def describe_coverage(
    names: Mapping[int, str], training: Labelled, validation: Labelled, held_out: Labelled
) -> list[str]:
    """Say what the patients of a training lack, one sentence for each kind.

    Parameters
    ----------
    names : mapping of int to str
        Names of the structures.
    training, validation, held_out : mapping of str to frozenset of int
        Classes on the done slices of the patients of each part.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for value, name in names.items():
        learnt, checked, tested = (
            tuple(patient for patient, found in part.items() if value in found)
            for part in (training, validation, held_out)
        )
        patients = (*learnt, *checked, *tested)
        if not patients:
            kind = "nowhere"
        elif not learnt:
            kind = "not learnt"
        elif not checked and not tested:
            kind = "no score" if validation or held_out else ""
        else:
            kind = "" if checked or not validation else "no validation"
        if kind == "no validation":
            patients = ()  # Their names do not matter.
        if kind:
            groups.setdefault((kind, patients), []).append(name)
    return [_sentence(kind, patients, found) for (kind, patients), found in groups.items()]


def _sentence(kind: str, patients: Sequence[str], structures: Sequence[str]) -> str:
    what, who = join_names(structures, MOST_NAMES), join_names(patients, MOST_NAMES)
    several = len(structures) > 1
    it_is, them = ("they are", "them") if several else ("it is", "it")
    if kind == "nowhere":
        return f"⚠ No done slice shows {what}, so {it_is} not learnt."
    if kind == "not learnt":
        where = "patients who are" if len(patients) > 1 else "a patient who is"
        verb = "are" if several else "is"
        return (
            f"⚠ {what} {verb} labelled only in {who}, {where} not used for training, so {it_is} "
            "not learnt."
        )
    if kind == "no validation":
        get = "get" if several else "gets"
        return f"The validation has no {what}, which {get} no Dice during the training."
    has = "have" if len(patients) > 1 else "has"
    return (
        f"Only {who}, used for training, {has} {what} labelled, so no other patient gives a score "
        f"for {them}."
    )
