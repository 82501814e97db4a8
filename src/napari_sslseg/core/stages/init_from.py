"""Start a training from an earlier run: its network, its preprocessing and its weights."""

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_sslseg.core.common.errors import CheckpointError, ConfigError
from napari_sslseg.core.common.events import Message
from napari_sslseg.core.common.text import count_phrase, did_you_mean
from napari_sslseg.core.runs.check_network import check_parts, check_run_network
from napari_sslseg.core.runs.run import Kind, Run
from napari_sslseg.core.runs.run_files import remark_unfinished
from napari_sslseg.core.samples.build import default_preprocessing
from napari_sslseg.core.scans.labelled import scan_geometry
from napari_sslseg.core.scans.reader import ScanReader
from napari_sslseg.core.scans.series import Source
from napari_sslseg.core.scans.volume import Modality, Volume
from napari_sslseg.core.settings.networks import EfficientNetwork, NetworkSettings
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing, Preprocessing
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings, Transfer

if TYPE_CHECKING:
    from torch import nn

Settings = TypeVar("Settings", PretrainSettings, FinetuneSettings)


def is_scratch(init: Run | str | Path | None) -> bool:
    """Whether a training starts with random weights: by the word scratch, in any case.

    A folder named so is a run in its own spelling only if it exists.
    """
    if isinstance(init, Run) or init is None:
        return init is None
    return init == "scratch" or (str(init).casefold() == "scratch" and not Path(init).is_dir())


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
        If it is in the folder of the new run, or in one of the folders that are ``replaced``.
    """
    if init is None or is_scratch(init):
        return None
    hint = "" if isinstance(init, Run) else did_you_mean(str(init), ["scratch"])
    if hint and not Path(str(init)).exists():
        raise CheckpointError(f"The run folder {init} does not exist. {hint}")
    start = Run.open(init, kind)
    if start.folder.resolve() in [path.resolve() for path in (out, *replaced)]:
        raise ConfigError(
            f"The new run would replace {start.folder}, which it starts from; choose another."
        )
    return start


def check_encoder_start(network: NetworkSettings) -> None:
    """Check that the weights that the encoder of a network starts from are here.

    Raises
    ------
    ConfigError
        If not.
    """
    from napari_sslseg.core.runs.weights.imagenet import imagenet_file

    if network.pretrained:
        imagenet_file()


def resolve_settings(
    settings: Settings,
    start: Run | None,
    scan: Volume | Source,
    modality: Modality | None,
    reader: ScanReader | None = None,
) -> Settings:
    """Fill in the network and the preprocessing that a training uses.

    Parameters
    ----------
    settings : PretrainSettings or FinetuneSettings
        Settings as given.
    start : Run or None
        Run to start from, whose network and preprocessing are used. From scratch, the network is
        that of the settings, and preprocessing that is not set follows from ``scan``.
    scan : Volume, Series or Path
        First scan, for its voxel size, and for its modality if that is not given.
    modality : {"MR", "CT"} or None
        Modality of the scans, if known.
    reader : ScanReader, optional
        Reads the scan and keeps it.

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
        guess = modality or (reader or ScanReader()).volume(scan).modality
        spacing = scan_geometry(scan).spacing
        chosen = default_preprocessing(guess, settings.network.dimensions, spacing=spacing)
        return settings.model_copy(update={"preprocessing": chosen})
    network, preprocessing = network_of(start), preprocessing_of(start)
    check_parts(start, check_run_network(start, network, preprocessing))
    if (
        isinstance(preprocessing, Preprocessing)
        and preprocessing.fit == "pad"
        and settings.preprocessing != preprocessing
    ):
        # The network takes images of any size; the canvas is chosen again from the scans.
        preprocessing = preprocessing.model_copy(update={"size": None})
    for name, used in (("network", network), ("preprocessing", preprocessing)):
        if name in settings.model_fields_set and getattr(settings, name) not in (None, used):
            raise ConfigError(
                f"The {name} settings differ from those of the pretraining {start.folder}; "
                "leave them out, or start from scratch."
            )
    return settings.with_network(network, preprocessing)


def network_of(run: Run) -> NetworkSettings:
    """Network settings of a run."""
    return _settings_of(run).network


def preprocessing_of(run: Run) -> AnyPreprocessing:
    """Preprocessing of a run, including the canvas size.

    Raises
    ------
    CheckpointError
        If the record of the run is damaged.
    """
    found = _settings_of(run).preprocessing
    if found is None:
        raise CheckpointError(f"The record of {run.folder} lacks its preprocessing.")
    return found


def _settings_of(run: Run) -> PretrainSettings | FinetuneSettings:
    if run.kind == "pretrain":
        return run.settings(PretrainSettings)
    return run.settings(FinetuneSettings)


def load_start(
    start: Run | None, model: "nn.Module", parts: Transfer, network: NetworkSettings | None = None
) -> Generator[Message, None, dict[str, Any]]:
    """Copy the weights to start from, if any, into a model.

    They are those of a run, or without one those that the settings of the network name.

    Parameters
    ----------
    start : Run or None
        Run to start from.
    model : nn.Module
        Changed in place.
    parts : {"encoder", "encoder+decoder"}
        Parts of the run to copy.
    network : BaseNetwork, optional
        Network of a training that begins; of one that is resumed, the state has the weights.

    Yields
    ------
    Message
        How many tensors were copied, and each tensor whose shape differs.

    Returns
    -------
    dict
        For the record of the run: name of the start, and what was done with each tensor.
    """
    from napari_sslseg.core.runs.weights.checkpoints import load_weights, transfer

    if start is None:
        if not isinstance(network, EfficientNetwork) or not network.pretrained:
            return {"init": "scratch"}
        return (yield from _load_imagenet(model, network))
    report = transfer(load_weights(start.weights), model, parts)
    yield Message(f"Start from {start.folder.name}: {report.summary()}")
    if remark := remark_unfinished(start.folder):
        yield Message(remark)
    for name, source, target in report.mismatched:
        yield Message(f"Not copied, shapes differ: {name} is {source}, here {target}.")
    return {"init": start.folder.name, "transfer": report.as_dict()}


def _load_imagenet(
    model: "nn.Module", network: EfficientNetwork
) -> Generator[Message, None, dict[str, Any]]:
    """Copy weights of ImageNet into the encoder of a model."""
    from napari_sslseg.core.runs.weights.checkpoints import transfer
    from napari_sslseg.core.runs.weights.efficientnet_names import FIRST_LAYER
    from napari_sslseg.core.runs.weights.imagenet import CHANNELS, imagenet_source, imagenet_weights

    channels = model.state_dict()[FIRST_LAYER].shape[1]
    report = transfer(imagenet_weights(network, channels), model, "encoder")
    source = imagenet_source()
    mean = (
        f" They are for {CHANNELS} colours; here there {'is' if channels == 1 else 'are'} "
        f"{count_phrase(channels, 'channel')}, so each has their mean in the first layer."
        if channels != CHANNELS
        else ""
    )
    yield Message(f"The encoder starts from weights of ImageNet ({source}).{mean}")
    return {"init": "scratch", "encoder_weights": source, "transfer": report.as_dict()}
