"""Metrics of runs as event files of TensorBoard."""

from importlib.util import find_spec
from pathlib import Path

from napari_sslseg.core.common.errors import ConfigError, StorageError
from napari_sslseg.core.runs.run import Run


def check_tensorboard() -> None:
    """Raise an error if TensorBoard is not installed.

    Raises
    ------
    ConfigError
        With the command that installs it.
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
        The run.
    folder : Path
        Folder for the event file; TensorBoard shows its name as that of the run.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    CheckpointError
        If the metrics are missing or damaged.
    ConfigError
        If TensorBoard is not installed.
    StorageError
        If the folder cannot be written or already has event files.
    """
    check_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    rows = run.metrics()
    if folder.is_dir() and any(folder.glob("events.out.tfevents.*")):
        # A second file would show every curve twice.
        raise StorageError(f"{folder} already has event files; choose another folder.")
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
