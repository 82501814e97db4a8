"""Questions to a person, in a box with named answers."""

from collections.abc import Sequence

from qtpy.QtWidgets import QMessageBox, QWidget


def ask(
    parent: QWidget,
    question: str,
    answers: Sequence[str],
    *,
    more: str = "",
    name: str = "question",
) -> str | None:
    """Ask, and wait for the answer.

    Parameters
    ----------
    parent : QWidget
        Above which it is asked.
    question : str
        In one sentence.
    answers : sequence of str
        What the buttons say; none of them does anything that cannot be got back unasked, so there
        is always a "Cancel" besides, which Escape and Enter choose.
    more : str
        What follows from the answers.
    name : str
        Object name of the box.

    Returns
    -------
    str or None
        The answer; None if it was cancelled.
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
