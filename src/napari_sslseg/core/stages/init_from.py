"""What a training starts from: an earlier run, whose network and preprocessing it takes over."""

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_sslseg.core.common.errors import CheckpointError, ConfigError
from napari_sslseg.core.common.events import Message
from napari_sslseg.core.runs.check_network import check_parts, check_run_network
from napari_sslseg.core.runs.run import Kind, Run
from napari_sslseg.core.samples.build import default_preprocessing
from napari_sslseg.core.scans.labelled import as_volume, scan_geometry
from napari_sslseg.core.scans.series import Source
from napari_sslseg.core.scans.volume import Modality, Volume
from napari_sslseg.core.settings.networks import NetworkSettings
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing, Preprocessing
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings, Transfer

if TYPE_CHECKING:
    from torch import nn

Settings = TypeVar("Settings", PretrainSettings, FinetuneSettings)


def open_start(
    init: Run | str | Path | None,
    out: Path,
    kind: Kind | None = None,
    *,
    replaced: Iterable[Path] = (),
) -> Run | None:
    """Open the run to start from, if any.

    Raises
    ------
    CheckpointError
        If it is no run, is damaged, or is not of the ``kind`` wanted.
    ConfigError
        If it stands where the new run is to be written, or in a folder that is ``replaced`` too.
    """
    if init is None:
        return None
    start = Run.open(init, kind)
    if start.folder.resolve() in [path.resolve() for path in (out, *replaced)]:
        raise ConfigError(
            f"The new run would replace {start.folder}, which it starts from; choose another."
        )
    return start


def settled(
    settings: Settings, start: Run | None, scan: Volume | Source, modality: Modality | None
) -> Settings:
    """Settings with network and preprocessing of the run to start from.

    From scratch the network stays as set, and preprocessing that is not set is that of the
    modality and the spacing of ``scan``.

    Raises
    ------
    CheckpointError
        If the record of the run is damaged, or its weights are not those of its network.
    ConfigError
        If the settings ask for another network or preprocessing than the run's.
    """
    if start is None:
        if settings.preprocessing is not None:
            return settings
        guess = modality or as_volume(scan).modality
        spacing = scan_geometry(scan).spacing
        chosen = default_preprocessing(guess, settings.network.dimensions, spacing=spacing)
        return settings.model_copy(update={"preprocessing": chosen})
    network, preprocessing = network_of(start), preprocessing_of(start)
    check_parts(start, check_run_network(start, network, preprocessing))
    same = settings.preprocessing == preprocessing
    if isinstance(preprocessing, Preprocessing) and preprocessing.fit == "pad" and not same:
        # The network takes any size; the canvas is chosen anew from the scans.
        preprocessing = preprocessing.model_copy(update={"size": None})
    for name, theirs in (("network", network), ("preprocessing", preprocessing)):
        if name in settings.model_fields_set and getattr(settings, name) not in (None, theirs):
            raise ConfigError(
                f"The {name} settings differ from those of the pretraining {start.folder}; "
                "leave them out, or start from scratch."
            )
    return settings.with_network(network, preprocessing)


def network_of(run: Run) -> NetworkSettings:
    """Settings of the network of a run."""
    return _stage(run).network


def preprocessing_of(run: Run) -> AnyPreprocessing:
    """Preprocessing of a run, with its canvas as it was.

    Raises
    ------
    CheckpointError
        If the record of the run is damaged.
    """
    found = _stage(run).preprocessing
    if found is None:
        raise CheckpointError(f"The record of {run.folder} lacks its preprocessing.")
    return found


def _stage(run: Run) -> PretrainSettings | FinetuneSettings:
    if run.kind == "pretrain":
        return run.settings(PretrainSettings)
    return run.settings(FinetuneSettings)


def load_start(
    start: Run | None, model: "nn.Module", parts: Transfer
) -> Generator[Message, None, dict[str, Any]]:
    """Copy parts of the run to start from into a model, if there is one.

    Yields
    ------
    Message
        How much was copied, and every tensor whose shape differs.

    Returns
    -------
    dict
        For the record of the run: what it starts from, and what became of every tensor.
    """
    from napari_sslseg.core.runs.weights.checkpoints import load_weights, transfer

    if start is None:
        return {"init": "scratch"}
    report = transfer(load_weights(start.weights), model, parts)
    yield Message(f"Start from {start.folder.name}: {report.summary()}")
    for name, theirs, ours in report.mismatched:
        yield Message(f"Not copied, shapes differ: {name} {theirs}, here {ours}.")
    return {"init": start.folder.name, "transfer": report.as_dict()}
