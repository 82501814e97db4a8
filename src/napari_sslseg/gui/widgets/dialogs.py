"""Dialogs that ask the user a question."""

from collections.abc import Sequence

from qtpy.QtWidgets import QMessageBox, QWidget


def ask_choice(
    parent: QWidget,
    question: str,
    answers: Sequence[str],
    *,
    more: str = "",
    name: str = "question",
) -> str | None:
    """Show a modal dialog with one button per answer and "Cancel", and wait for the choice.

    Parameters
    ----------
    parent : QWidget
        Parent of the dialog.
    question : str
        One sentence.
    answers : sequence of str
        Texts of the buttons. Escape and Enter choose "Cancel", so that no answer is given by
        mistake.
    more : str
        Explanation of the consequences.
    name : str
        Object name of the dialog.

    Returns
    -------
    str or None
        The chosen answer; None if cancelled.
    """
    box = QMessageBox(parent)
    box.setObjectName(name)
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle("Few-shot segmentation")
    box.setText(question)
    box.setInformativeText(more)
    buttons = {}
    for answer in answers:
        button = box.addButton(answer, QMessageBox.ButtonRole.AcceptRole)
        if button is not None:
            button.setObjectName(f"answer-{answer}")
            buttons[answer] = button
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(cancel)
    box.exec()
    chosen = box.clickedButton()
    box.deleteLater()
    return next((answer for answer, button in buttons.items() if button is chosen), None)
