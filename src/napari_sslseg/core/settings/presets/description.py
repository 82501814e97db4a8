"""Description of a preset in plain words, as rows of a table."""

from napari_sslseg.core.settings.augmentation import Augmentation
from napari_sslseg.core.settings.networks import LevelledNetwork, NetworkSettings
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing, Preprocessing
from napari_sslseg.core.settings.presets.preset import Preset, Stage
from napari_sslseg.core.settings.stages import FinetuneSettings, LossKind
from napari_sslseg.core.settings.training import Training

Rows = list[tuple[str, str]]

LOSSES: dict[LossKind, str] = {
    "dice-ce": "Dice over the batch plus cross entropy",
    "dice": "Dice over the batch, one sigmoid for each class",
    "dice-per-sample": "Dice of each image, one sigmoid for each class",
    "dice-multilabel": "Dice of all classes and the background",
    "bce-to-dice": "binary cross entropy that is gradually replaced by Dice, one sigmoid for each "
    "class",
}
NORMALISATIONS = {
    "volume": "z-score over the scan",
    "slice": "z-score over each slice and channel",
    "unit": "scaled to 0…1",
}


def preset_rows(preset: Preset) -> Rows:
    """Return the parts of a preset as pairs of heading and description."""
    rows = [
        ("Paper", preset.reference),
        ("What it does", preset.summary),
        ("MR scans", describe_preprocessing(preset.mr)),
        ("CT scans", describe_preprocessing(preset.ct)),
        ("Network", describe_network(preset.network)),
    ]
    for number, stage in enumerate(preset.stages):
        which = f", stage {number + 1}" if len(preset.stages) > 1 else ""
        rows.append((f"Pretraining{which}", describe_stage(stage)))
        rows.append((f"Schedule{which}", describe_training(stage.settings.training)))
    fine = preset.finetuning
    return [
        *rows,
        ("Transfer", f"{fine.transfer.replace('+', ' and ')}; the whole network is then trained"),
        ("Fine-tuning", describe_finetuning(fine)),
        ("Schedule of the fine-tuning", describe_training(fine.training)),
    ]


def describe_preprocessing(settings: AnyPreprocessing) -> str:
    """Describe intensities and sizes, such as "−160…240 HU, scaled to 0…1, axial slices"."""
    parts = []
    if settings.modality == "CT":
        bounds = [window.bounds for window in settings.windows]
        parts.append(
            " and ".join(f"{_signed(low)}…{_signed(high)}" for low, high in bounds) + " HU"
        )
    elif settings.clip_percentiles != (0, 100):
        low, high = settings.clip_percentiles
        softly = "softly " if settings.clipping == "soft" else ""
        parts.append(f"{softly}clipped to the percentiles {low:g} and {high:g}")
    parts.append(NORMALISATIONS[settings.normalize])
    slices = isinstance(settings, Preprocessing)
    parts.append(f"{settings.plane} slices" if slices else "volumes")
    if isinstance(settings.spacing, tuple):
        parts.append(f"voxels of {_times(settings.spacing)} mm")
    elif settings.spacing != "keep":
        unit = "square pixels" if settings.spacing == "isotropic" else f"{settings.spacing:g} mm"
        parts.append(unit)
    if settings.size == "whole" or (settings.size is None and slices):
        parts.append("of their own size")
    elif settings.size is None:
        parts.append("in crops chosen from the scans")
    else:
        how = settings.fit if isinstance(settings, Preprocessing) else "pad"
        done = "resized" if how == "resize" and slices else "padded or cropped"
        parts.append(f"{done} to {_times(settings.size)}")
    return ", ".join(parts)


def describe_network(settings: NetworkSettings) -> str:
    """Return title and widths of a network."""
    if isinstance(settings, LevelledNetwork):
        return f"{settings.title}, {', '.join(map(str, settings.widths))} channels"
    return settings.title


def describe_stage(stage: Stage) -> str:
    """Return task and options of a stage."""
    options = [f"{name.replace('_', ' ')} {_value(v)}" for name, v in stage.options.items()]
    if stage.settings.middle_share < 1:
        options.append(f"the middle {stage.settings.middle_share:.0%} of each scan")
    return ", ".join([stage.task, *options])


def describe_training(settings: Training) -> str:
    """Return length, batch size, optimiser and learning rate."""
    length = f"{settings.epochs} epochs" if settings.epochs else f"{settings.steps} steps"
    parts = [
        length,
        f"batch size {settings.batch_size}",
        f"{'Adam' if settings.optimizer == 'adam' else 'SGD'} at {settings.learning_rate:g}",
    ]
    if settings.optimizer == "adam" and settings.betas != (0.9, 0.999):
        parts.append(f"betas {settings.betas[0]:g} and {settings.betas[1]:g}")
    if settings.weight_decay:
        parts.append(f"weight decay {settings.weight_decay:g}")
    schedules = {
        "constant": "constant",
        "warmup-poly": "warm-up, then polynomial decay",
        "step-decay": "decreased by a tenth every second epoch",
        "cosine-restarts": f"cosine, restarted every {settings.restart_every} epochs",
        "plateau": f"halved after {settings.plateau_patience} validations without improvement",
    }
    parts.append(schedules[settings.schedule])
    if settings.early_stopping:
        stop = settings.early_stopping
        parts.append(
            f"stopped after {stop.patience} validations without an improvement by "
            f"{stop.min_delta:g}"
        )
    return ", ".join(parts)


def describe_finetuning(settings: FinetuneSettings) -> str:
    """Return loss, augmentation and slices of the fine-tuning."""
    parts = [LOSSES[settings.loss]]
    if settings.reconstruction_weight:
        parts.append(f"{settings.reconstruction_weight:g} of the loss for restoring the image")
    if settings.middle_share < 1:
        parts.append(f"annotated slices in the middle {settings.middle_share:.0%} of each scan")
    parts.append(describe_augmentation(settings.augmentation))
    return "; ".join(parts)


def describe_augmentation(settings: Augmentation) -> str:
    """Return the names of the changes that are not turned off."""
    used = [name for name, value in settings if value]
    return f"augmented by {', '.join(used)}" if used else "no augmentation"


def _times(numbers: tuple[float, ...]) -> str:
    return " × ".join(f"{number:g}" for number in numbers)


def _value(value: object) -> str:
    return _times(value) if isinstance(value, tuple) else str(value)


def _signed(number: float) -> str:
    return f"{number:g}".replace("-", "−")
