"""Asks what the done slices of other scans mean when imported labels bring new structures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_sslseg.core.common.text import join_names
from napari_sslseg.gui.model.done_marks import without_new_class
from napari_sslseg.gui.text import plural
from napari_sslseg.gui.widgets.dialogs import ask_choice

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session

NOT_LABELLED, UNMARK, KEEP = "Not labelled there", "Unmark", "Keep marks"
MORE_FIRST = (
    "Labels stay in each case. Keep the marks only if none of these slices shows the new "
    "structures."
)
MORE = (
    f"{MORE_FIRST} “Not labelled there”, and also Cancel: the slices stay done, and the new "
    "structures are neither learnt as background there nor scored."
)
MORE_SINGLE = f"{MORE_FIRST} Cancel unmarks them, too."
UNANSWERED = (
    "New structures came with the labels of {by}: {classes}. They count as not labelled on the "
    "done slices of {scans}: they are neither learnt as background there nor scored. If they are "
    "labelled there, or not there at all, choose “Labelled structures…” in the menu of the scan."
)
UNMARKED = (
    "New structures came with the labels of {by}: {classes}. The slices of {scans} that were done "
    "may show them and are no longer done; mark them again when all their structures are labelled."
)


class NewClasses:
    """Asks once labels have brought new structures, and other scans have done slices.

    Parameters
    ----------
    parent : QWidget
        Parent of the dialog.
    session : Session
    """

    def __init__(self, parent: QWidget, session: "Session") -> None:
        self.parent, self.session = parent, session
        # Not within the signal of the job, whose other receivers would wait for the answer.
        session.classes_came.connect(
            lambda names, scans: QTimer.singleShot(0, lambda: self._ask(names, scans))
        )

    def _ask(self, names: Sequence[str], by: Sequence[str]) -> None:
        session, project = self.session, self.session.project
        done = {} if project is None or session.leaving else without_new_class(project, by)
        if project is None or not done:
            return
        count, classes = sum(map(len, done.values())), join_names(names, 3)
        scans = join_names(list(done), 3)
        others = [value for value, name in project.class_names.items() if name not in names]
        answer = ask_choice(
            self.parent,
            f"{plural(count, 'slice')} of {scans} {'is' if count == 1 else 'are'} done without "
            f"{classes}, which came with the labels of {join_names(by, 3)}. Where they show it, it "
            "would count as background.",
            # A scan has at least one labelled structure.
            [NOT_LABELLED, UNMARK, KEEP] if others else [UNMARK, KEEP],
            more=MORE if others else MORE_SINGLE,
            name="ask-new-classes",
        )
        if self.session.project is not project:
            return
        if answer is None:  # The choice that counts nothing as background.
            words = UNANSWERED if others else UNMARKED
            session.remark.emit(words.format(classes=classes, by=join_names(by, 3), scans=scans))
        if answer == NOT_LABELLED or (answer is None and others):
            session.set_labelled_classes(done, others)
        elif answer != KEEP:
            session.finish()
            for name, slices in done.items():
                session.mark_done(name, slices, done=False)
