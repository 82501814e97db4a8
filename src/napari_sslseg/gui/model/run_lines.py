"""The list of runs as the window shows it, and which runs can be resumed. Needs no Qt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.gui.text import format_number

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.runs.listing import RunSummary

MOST_SIDECAR = 4 * 2**20
ENDED = {"stopped": "stopped", "failed": "failed", "running": "interrupted"}
SPEED_RANGE = 0.8, 1.5
"""Expected range of seconds per step, relative to an earlier run with the same settings."""


@dataclass(frozen=True)
class RunLine:
    """A run as a line of text.

    Attributes
    ----------
    name : str
        Name of its folder below ``runs/``.
    folder : Path
    text, hint : str
        The line, and details for the tooltip.
    resumable : bool
        Whether the run can be resumed.
    usable : bool
        Whether the run has weights.
    """

    name: str
    folder: Path
    text: str
    hint: str = ""
    resumable: bool = False
    usable: bool = False


def run_lines(
    runs: "Sequence[RunSummary]", kind: Literal["pretrain", "finetune"], active: str = ""
) -> list[RunLine]:
    """Return a line for each run of a kind, in the order of ``runs``.

    Parameters
    ----------
    runs : sequence of RunSummary
    kind : {"pretrain", "finetune"}
    active : str
        Name of the run that is being trained.
    """
    other = "finetune" if kind == "pretrain" else "pretrain"
    names = {summary.name for summary in runs}
    lines: list[RunLine] = []
    for summary in runs:
        name, *stage = Path(summary.name).parts
        # A damaged record has no kind, so the name of the folder is used.
        wrong = summary.kind != kind if summary.kind is not None else name.startswith(other)
        if wrong or (stage and name in names):
            continue
        if stage and any(line.name == name for line in lines):
            continue
        lines.append(_line(summary, name, bool(stage), active))
    return lines


def _line(summary: "RunSummary", name: str, stage: bool, active: str) -> RunLine:
    folder = summary.folder.parent if stage else summary.folder
    if summary.problem is not None:
        return RunLine(name, folder, f"{name}, cannot be used", summary.problem)
    step, loss = summary.step, summary.loss
    total = summary.steps or 0
    hint = ", ".join(text for text in (summary.learnt, summary.network, summary.preset) if text)
    if name == active:
        return RunLine(name, folder, f"{name}, running", hint)
    # A preset whose second stage never started is not finished, even if the first stage is.
    finished = summary.status == "finished" and not stage
    words = "finished" if finished else ENDED.get(str(summary.status), "interrupted")
    if finished or not total:
        steps = f"{step or total:,} steps"
    else:
        steps = f"step {step or 0:,} of {total:,}" + (" of its first stage" if stage else "")
    parts = [name, words, steps]
    if summary.kind == "finetune" and summary.best is not None:
        parts.append(f"Dice {summary.best:.2f}")
    elif loss is not None:
        parts.append(f"loss {format_number(loss)}")
    usable = not stage and (folder / "last.safetensors").is_file()
    return RunLine(name, folder, ", ".join(parts), hint, not finished, usable)


def expected_step_seconds(
    project: "Project | None", task: str, network: Any, batch_size: int
) -> tuple[float, float] | None:
    """Estimate the seconds per step from the last finished run with the same settings.

    Returns
    -------
    tuple of float, or None
        Lowest and highest expected value; None if there is no such run.
    """
    from napari_sslseg.core.runs.run import Run

    if project is None:
        return None
    for summary in reversed(project.runs()):
        if summary.learnt != task or summary.seconds is None or summary.problem is not None:
            continue
        if summary.status != "finished":
            continue
        step = summary.step
        try:
            record = Run.open(summary.folder).record
        except SslsegError:
            continue
        settings = record["settings"]
        same = settings.get("network") == network.model_dump(mode="json")
        same_batch = settings.get("training", {}).get("batch_size") == batch_size
        if same and same_batch and step and "resumed" not in record:
            each = summary.seconds / step
            return each * SPEED_RANGE[0], each * SPEED_RANGE[1]
    return None
