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
    f"{MORE_FIRST} “Not labelled there”: the slices stay done, and the new structures are neither "
    "learnt as background there nor scored."
)
UNANSWERED = (
    "{classes} came with the labels of {by}, and counts as background on the done slices of "
    "{scans}. If it was not labelled there, choose “Labelled structures…” in the menu of the scan."
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
            more=MORE if others else MORE_FIRST,
            name="ask-new-classes",
        )
        if self.session.project is not project:
            return
        if answer == NOT_LABELLED:
            session.set_labelled_classes(done, others)
        elif answer == UNMARK:
            session.finish()
            for name, slices in done.items():
                session.mark_done(name, slices, done=False)
        elif answer is None:
            session.remark.emit(
                UNANSWERED.format(classes=classes, by=join_names(by, 3), scans=scans)
            )
