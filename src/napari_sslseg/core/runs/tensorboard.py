"""Metrics of runs as event files, for those who watch trainings in TensorBoard."""

from importlib.util import find_spec
from pathlib import Path

from napari_sslseg.core.common.errors import ConfigError, StorageError
from napari_sslseg.core.runs.run import Run


def check_tensorboard() -> None:
    """Refuse where TensorBoard is not installed.

    Raises
    ------
    ConfigError
        One sentence that says how to install it.
    """
    if find_spec("tensorboard") is None:
        raise ConfigError(
            "TensorBoard is not installed; run pip install napari-sslseg[tensorboard]."
        )


def write_events(run: Run, folder: Path) -> int:
    """Write ``metrics.csv`` of a run as an event file.

    Parameters
    ----------
    run : Run
        Its metrics are read.
    folder : Path
        For the event file; TensorBoard takes its name for that of the run.

    Returns
    -------
    int
        How many rows were written.

    Raises
    ------
    CheckpointError
        If the metrics are missing or damaged.
    ConfigError
        If TensorBoard is not installed.
    StorageError
        If the folder cannot be written, or holds events already.
    """
    check_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    rows = run.metrics()
    if folder.is_dir() and any(folder.glob("events.out.tfevents.*")):
        # A second file would draw every curve twice.
        raise StorageError(f"{folder} holds events already; choose another folder.")
    try:
        with SummaryWriter(str(folder)) as writer:
            for row in rows:
                step = int(row.get("step", 0))
                for name, value in row.items():
                    if name != "step":
                        writer.add_scalar(name.replace("validation_", "validation/"), value, step)
    except OSError as error:
        raise StorageError(
            f"Could not write {folder}: {error.strerror or error}; choose another folder."
        ) from error
    return len(rows)
