"""List of the scans of a project, with buttons for the selected scans."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.core.common.text import join_names
from napari_sslseg.core.project.scans import describe_project_patients
from napari_sslseg.core.scans.formats.registry import dialog_filter, has_dicom_name
from napari_sslseg.core.scans.volume import Modality
from napari_sslseg.gui.scans.class_dialog import ClassDialog, class_map_of, needs_answer
from napari_sslseg.gui.scans.labelled_dialog import LabelledDialog
from napari_sslseg.gui.scans.new_classes import NewClasses
from napari_sslseg.gui.scans.scan_table import USES, ScanTable
from napari_sslseg.gui.scans.scan_view import ScanView
from napari_sslseg.gui.text import plural
from napari_sslseg.gui.widgets.dialogs import ask_choice
from napari_sslseg.gui.widgets.no_wheel import NoWheelComboBox

if TYPE_CHECKING:
    from napari_sslseg.core.project.labels import DoneSlices
    from napari_sslseg.core.project.record import ScanEntry
    from napari_sslseg.core.scans.classes.matching import Structure
    from napari_sslseg.core.scans.classes.segment import Segment
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.scans.scan_actions import ScanActions
    from napari_sslseg.gui.scans.thumbnails import Thumbnails

DONE_ANSWERS: dict[str, "DoneSlices"] = {
    "Those with labels": "with labels",
    "All slices": "all",
    "None": "none",
}
REMOVE = "Remove"
CORRECTION = "If that is wrong, correct the column Patient."


class ScanList(QWidget):
    """A table of scans, and below it a description and buttons for the selected rows.

    Parameters
    ----------
    session : Session
        Session whose project is shown.
    actions : ScanActions
        Changes scans of the project.
    thumbnails : Thumbnails
        Pictures of the scans.
    """

    def __init__(
        self, session: "Session", actions: "ScanActions", thumbnails: "Thumbnails"
    ) -> None:
        super().__init__()
        self.session, self.scan_actions, self.thumbnails = session, actions, thumbnails
        # Answers to earlier files without names, which are offered again.
        self._answers: dict[Segment, str] = {}
        self.new_classes = NewClasses(self, session)
        session.project_changed.connect(self._forget_answers)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.model = ScanTable(session, actions, thumbnails)
        self.table = ScanView(self.model, self.show_scan, self.ask_remove)
        self.table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.table.customContextMenuRequested.connect(self._show_menu)
        layout.addWidget(self.table, 1)
        self.patients = QLabel()
        self.patients.setObjectName("scan-patients")
        self.patients.setWordWrap(True)
        self.patients.setTextFormat(Qt.TextFormat.PlainText)
        layout.addWidget(self.patients)
        self.detail = QLabel()
        self.detail.setObjectName("scan-detail")
        self.detail.setWordWrap(True)
        self.detail.setTextFormat(Qt.TextFormat.PlainText)
        self.detail.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout.addWidget(self.detail)
        layout.addLayout(self._make_actions())
        self.table.selectionModel().selectionChanged.connect(self.refresh)
        session.scans_changed.connect(self.table.fit_columns)
        session.scans_changed.connect(self.refresh)
        session.scans_changed.connect(self._describe_patients)
        session.project_changed.connect(self._describe_patients)
        session.done_changed.connect(lambda name: self.refresh())
        session.project_changed.connect(self.refresh)
        session.selected.connect(self._show_current)
        actions.changed.connect(self.refresh)
        self.refresh()
        self._describe_patients()

    def _make_actions(self) -> QGridLayout:
        grid = QGridLayout()
        self.show_button = self._button("&Show", "scan-show", self.show_scan)
        self.show_button.setToolTip("Show this scan (double-click, or Enter).")
        self.find_button = self._button("Find i&t…", "scan-find", self.ask_find)
        self.find_button.setToolTip("Choose the file of this scan in its new place.")
        self.use = NoWheelComboBox()
        self.use.setObjectName("scan-use")
        self.use.setAccessibleName("Use of the scan")
        self.use.addItems(list(USES.values()))
        self.use.setToolTip(
            "Train: this patient is used for training. Held out: this patient is never used for "
            "training, only for testing. All scans of a patient change together."
        )
        self.use.activated.connect(lambda number: self.set_use(list(USES)[number]))
        self.patient = self._button("&Patient…", "scan-patient", self.ask_patient)
        self.patient.setToolTip(
            "Correct the patient of the selected scans. For one scan, double-click its patient in "
            "the list."
        )
        self.labels = self._button("&Import labels…", "scan-import", self.ask_labels)
        self.labels.setToolTip(
            "Import labels of this scan from a file, or from several files of one structure each."
        )
        self.remove = self._button("&Remove…", "scan-remove", self.ask_remove)
        self.remove.setToolTip("Remove scans from the project. Your files are not deleted.")
        label = QLabel("&Use")
        label.setBuddy(self.use)
        label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        # A scan whose file is missing has "Find it" in place of "Show".
        grid.addWidget(self.show_button, 0, 0)
        grid.addWidget(self.find_button, 0, 0)
        grid.addWidget(label, 0, 1)
        grid.addWidget(self.use, 0, 2)
        grid.addWidget(self.labels, 1, 0)
        others = QHBoxLayout()
        others.addWidget(self.patient)
        others.addWidget(self.remove)
        grid.addLayout(others, 1, 1, 1, 2)
        for column, stretch in enumerate((3, 0, 3)):
            grid.setColumnStretch(column, stretch)
        return grid

    def _button(self, text: str, name: str, do: Callable[[], None]) -> QPushButton:
        button = QPushButton(text)
        button.setObjectName(name)
        button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        button.clicked.connect(lambda: do())
        return button

    @property
    def chosen(self) -> list[str]:
        """Names of the selected scans, in the order of the list."""
        return self.table.chosen

    def refresh(self) -> None:
        """Describe the selected scans, and enable the buttons that apply."""
        project, problems = self.session.project, self.scan_actions.problems
        self.table.show_problems(bool(problems))
        self._enable_buttons()
        if project is None or not project.names:
            self.detail.setText("")
            return
        chosen = [name for name in self.chosen if name in project.names]
        if chosen:
            roles = {project.entry(name).role for name in chosen}
            self.use.setCurrentIndex(list(USES).index(roles.pop()) if len(roles) == 1 else -1)
        if len(chosen) == 1:
            self.detail.setText(problems.get(chosen[0]) or self._description(chosen[0]))
        elif chosen:
            self.detail.setText(f"{len(chosen)} scans are selected.")
        else:
            note = (
                f" {len(problems)} cannot be used now; see the Problem column." if problems else ""
            )
            self.detail.setText(f"{plural(len(project.names), 'scan')}.{note}")

    def _describe_patients(self) -> None:
        """Say who was taken for one patient, and how to correct it."""
        if self.scan_actions.running("add") is not None:
            return  # Else the names of all scans would be compared again for each new one.
        project = self.session.project
        entries = project.record.scans if project is not None else ()
        self.patients.setVisible(len(entries) > 1)
        if len(entries) > 1:
            self.patients.setText(f"{describe_project_patients(entries)} {CORRECTION}")

    def _enable_buttons(self) -> None:
        chosen = self.chosen
        one = chosen[0] if len(chosen) == 1 else None
        usable = one is not None and one not in self.scan_actions.problems
        missing = one is not None and self._is_missing(one)
        self.show_button.setEnabled(usable)
        self.show_button.setVisible(not missing)
        self.find_button.setVisible(missing)
        self.labels.setEnabled(usable)
        self.use.setEnabled(bool(chosen))
        self.patient.setEnabled(bool(chosen))
        self.remove.setEnabled(bool(chosen))

    def _is_missing(self, name: str) -> bool:
        """Whether the file of a scan is missing, changed or unreadable."""
        return (
            name in self.scan_actions.problems and self.model.kind_of_problem(name) != "No labels"
        )

    def _description(self, name: str) -> str:
        assert self.session.project is not None
        entry = self.session.project.entry(name)
        parts = [entry.name]
        if entry.subject != entry.name:
            parts.append(f"patient {entry.subject}")
        guess = " (not named in its file; right-click to correct)"
        kind = entry.modality if _names_modality(entry) else f"{entry.modality}{guess}"
        parts.append(f"{kind}, {' × '.join(map(str, entry.shape))}")
        spacing = self.model.spacing(entry)
        if spacing is not None:
            parts.append(" × ".join(f"{value:.3g}" for value in spacing) + " mm")
        done = entry.done_count
        parts.append(f"{plural(done, 'slice')} done" if done else "no slices done")
        if entry.labelled_classes is not None:
            names = [self.session.project.class_names[value] for value in entry.labelled_classes]
            parts.append(f"only {join_names(names, 6)} labelled")
        return " · ".join(parts)

    def show_scan(self) -> None:
        """Show the selected scan."""
        if len(self.chosen) == 1:
            self.session.select(self.chosen[0])

    def set_use(self, role: str) -> None:
        """Use the selected scans for training, or hold them out."""
        project = self.session.project
        for name in self.chosen:
            # All scans of a patient change together.
            if project is not None and project.entry(name).role != role:
                self.session.set_role(name, role)

    def ask_patient(self) -> None:
        """Ask for the patient of the selected scans."""
        project, chosen = self.session.project, self.chosen
        if project is None or not chosen:
            return
        what = _these(chosen)
        known = list(dict.fromkeys(entry.subject for entry in project.record.scans))
        now = known.index(project.entry(chosen[0]).subject)
        patient, agreed = QInputDialog.getItem(
            self, "Patient", f"Patient of {what}; choose one, or type a new name:", known, now, True
        )
        if agreed and patient.strip():
            self.session.set_patient(chosen, patient.strip())

    def ask_find(self) -> None:
        """Ask for the new place of a scan."""
        project, chosen = self.session.project, self.chosen
        if project is None or len(chosen) != 1:
            return
        entry = project.entry(chosen[0])
        old = Path(entry.absolute)
        start = str(next((place for place in old.parents if place.is_dir()), project.folder))
        if entry.files:
            place = QFileDialog.getExistingDirectory(self, f"Folder of {entry.name}", start)
        else:
            place, _ = QFileDialog.getOpenFileName(self, f"File of {entry.name}", start)
        if place:
            self.scan_actions.find(entry.name, place)

    def ask_labels(self) -> None:
        """Ask for files with labels, for their classes, and which slices are done."""
        chosen = self.chosen
        if len(chosen) != 1:
            return
        name = chosen[0]
        paths, _ = QFileDialog.getOpenFileNames(
            self, f"Labels of {name}", "", dialog_filter("Label maps")
        )
        if paths:
            # Not within the signal of the job, whose other receivers would wait for the answer.
            self.scan_actions.read_classes(
                name,
                paths,
                lambda found: QTimer.singleShot(0, lambda: self._ask_import(name, paths, found)),
            )

    def _ask_import(
        self, name: str, paths: "Sequence[str]", structures: "Sequence[Structure]"
    ) -> None:
        """Ask for the classes of labels if they are not clear, and for the slices that are done."""
        project, class_map = self.session.project, None
        if project is None or name not in project.names:
            return
        if needs_answer(structures, project.class_names):
            dialog = ClassDialog(
                self, Path(paths[0]).name, structures, project.class_names, self._answers
            )
            accepted, answers = dialog.exec(), dialog.answers
            dialog.deleteLater()
            if not accepted:
                return
            self._answers |= answers
            class_map = class_map_of(answers)
        done = ask_done(self)
        if done is not None:
            self.scan_actions.import_labels(name, paths, done, class_map)

    def _forget_answers(self) -> None:
        self._answers.clear()

    def ask_remove(self) -> None:
        """Ask whether to remove the selected scans from the project."""
        chosen = self.chosen
        if not chosen:
            return
        what = chosen[0] if len(chosen) == 1 else f"{len(chosen)} scans"
        if ask_choice(
            self,
            f"Remove {what} from the project?",
            [REMOVE],
            more="The files of the scans stay where they are. A copy of the labels is kept in the "
            "project.",
            name="ask-remove",
        ):
            self.scan_actions.remove(chosen)

    def ask_labelled(self) -> None:
        """Ask which structures are labelled in the selected scans."""
        project, chosen = self.session.project, self.chosen
        if project is None or not chosen:
            return
        what = _these(chosen)
        now = project.labelled_classes(chosen[0])
        dialog = LabelledDialog(self, what, project.class_names, now)
        accepted, values = dialog.exec(), dialog.chosen
        dialog.deleteLater()
        if accepted:
            everything = len(values) == len(project.classes)
            self.session.set_labelled_classes(chosen, None if everything else values)

    def _show_menu(self, place: QPoint) -> None:
        if not self.chosen:
            return
        menu = QMenu(self)
        for button in (
            self.show_button, self.find_button, self.labels, self.patient, self.remove,
        ):  # fmt: skip
            if not button.isHidden():
                action = menu.addAction(button.text())
                action.setEnabled(button.isEnabled())
                action.triggered.connect(button.click)
        project = self.session.project
        labelled = menu.addAction("Labelled structures…")
        labelled.setEnabled(project is not None and bool(project.classes))
        labelled.triggered.connect(self.ask_labelled)
        menu.addSeparator()
        for role, text in USES.items():
            menu.addAction(text).triggered.connect(lambda _=False, role=role: self.set_use(role))
        menu.addSeparator()
        for modality in get_args(Modality):
            action = menu.addAction(f"Modality: {modality}")
            action.triggered.connect(
                lambda _=False, modality=modality: self.session.set_modality(self.chosen, modality)
            )
        menu.addSeparator()
        menu.addAction("Check all scans again").triggered.connect(self.scan_actions.check)
        menu.exec(self.table.viewport().mapToGlobal(place))
        menu.deleteLater()

    def _show_current(self, name: str) -> None:
        """Select the row of the current scan."""
        self.table.choose(name)
        self.refresh()


def _names_modality(entry: "ScanEntry") -> bool:
    """Whether the file of a scan names its modality, which only DICOM does."""
    return bool(entry.files) or has_dicom_name(entry.absolute)


def _these(names: "Sequence[str]") -> str:
    return names[0] if len(names) == 1 else f"these {len(names)} scans"


def ask_done(parent: QWidget, scans: int = 1) -> "DoneSlices | None":
    """Ask which slices of imported labels are done; None if the import is cancelled."""
    kept = (
        "A copy of the current labels of the scan is kept."
        if scans == 1
        else "Copies of the current labels of the scans are kept."
    )
    answer = ask_choice(
        parent,
        "Which slices of these labels are done?",
        list(DONE_ANSWERS),
        more="Slices that are done are used for training, or only for scores if their patient is "
        f"held out, and pixels without a label there count as background. {kept}",
        name="ask-done",
    )
    return None if answer is None else DONE_ANSWERS[answer]
