"""The runs of a project, a line each, and which can be gone on with. Needs no Qt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.safe_json import read_json
from napari_sslseg.gui.model.words import short

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.core.runs.listing import RunSummary

MOST_SIDECAR = 4 * 2**20
ENDED = {"stopped": "stopped", "failed": "failed", "running": "interrupted"}
GUESS = 0.8, 1.5
"""How much quicker or slower than an earlier run a training may be."""


@dataclass(frozen=True)
class RunLine:
    """A run in words.

    Attributes
    ----------
    name : str
        Of its folder among the runs.
    folder : Path
    text, hint : str
        A line, and more of it.
    open_end : bool
        Whether it can be gone on with.
    usable : bool
        Whether it has weights to look at.
    """

    name: str
    folder: Path
    text: str
    hint: str = ""
    open_end: bool = False
    usable: bool = False


def run_lines(
    runs: "Sequence[RunSummary]", kind: Literal["pretrain", "finetune"], active: str = ""
) -> list[RunLine]:
    """Lines of all runs of a kind, the latest last; ``active`` is the one at work."""
    names = {summary.name for summary in runs}
    lines: list[RunLine] = []
    for summary in runs:
        name, *stage = Path(summary.name).parts
        if not name.startswith(kind) or (stage and name in names):
            continue
        if stage and any(line.name == name for line in lines):
            continue
        lines.append(_line(summary, name, bool(stage), active))
    return lines


def _line(summary: "RunSummary", name: str, stage: bool, active: str) -> RunLine:
    folder = summary.folder.parent if stage else summary.folder
    if summary.problem is not None:
        return RunLine(name, folder, f"{name}, cannot be used", summary.problem)
    step, loss = _last(summary.folder)
    total = summary.steps or 0
    hint = ", ".join(text for text in (summary.learnt, summary.network, summary.preset) if text)
    if name == active:
        return RunLine(name, folder, f"{name}, at work", hint)
    # A preset whose second stage never began is not finished, even if its first one is.
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
        parts.append(f"loss {short(loss)}")
    usable = not stage and (folder / "last.safetensors").is_file()
    return RunLine(name, folder, ", ".join(parts), hint, not finished, usable)


def _last(folder: Path) -> tuple[int | None, float | None]:
    """Step and loss of the latest weights."""
    try:
        found = read_json(folder / "last.json", MOST_SIDECAR)
        step, loss = found.get("step"), found.get("metrics", {}).get("loss")
    except (OSError, ValueError, AttributeError):
        return None, None
    return (
        step if isinstance(step, int) else None,
        float(loss) if isinstance(loss, int | float) else None,
    )


def time_like(project: "Project | None", task: str, network: Any, training: Any) -> Any:
    """Seconds per step, lowest and highest, by the last run that did the same; None if none did."""
    from napari_sslseg.core.runs.run import Run

    if project is None:
        return None
    for summary in reversed(project.runs()):
        if summary.learnt != task or summary.seconds is None or summary.problem is not None:
            continue
        if summary.status != "finished":
            continue
        step, _ = _last(summary.folder)
        try:
            record = Run.open(summary.folder).record
        except SslsegError:
            continue
        settings = record["settings"]
        same = settings.get("network") == network.model_dump(mode="json")
        batch = settings.get("training", {}).get("batch_size")
        if same and batch == training and step and "resumed" not in record:
            each = summary.seconds / step
            return each * GUESS[0], each * GUESS[1]
    return None
