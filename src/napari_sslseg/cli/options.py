"""From the words of the command line to the settings of the core."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_sslseg.core.common.errors import ConfigError

Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Overwrite = Annotated[bool, typer.Option(help="Replace an older run in the same folder.")]
Resume = Annotated[
    bool,
    typer.Option(
        help="Go on with the run in --out, by its own settings and with the same scans; a run that "
        "was killed too."
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(help="Threads on the CPU; if unset, one core is left to the screen.", min=1),
]
Devices = Annotated[
    int | None,
    typer.Option(
        help="Devices of each machine that train together, one process each; 1 if unset, or as "
        "torchrun or srun started them.",
        min=1,
    ),
]
Nodes = Annotated[int | None, typer.Option(help="Machines that train together; likewise.", min=1)]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the network, which takes about a minute and pays in long trainings.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=2**31 - 1)]
# A run that goes on brings its own.
RunSeed = Annotated[
    int | None,
    typer.Option(help="Seed of everything random; 0 if not set.", min=0, max=2**31 - 1),
]
ModalityOption = Annotated[
    str | None, typer.Option(help="MR or CT, where the guess from the values is wrong.")
]
NETWORK_WORDS = (
    "tiny, small (default), paper, umapathy, multimix or dynunet for slices, dense3d or dynunet3d "
    "for volumes"
)
# A run to start from brings its network, plane and spacing.
NetworkOption = Annotated[
    str | None,
    typer.Option(help=f"From scratch: {NETWORK_WORDS}."),
]
ScratchPlane = Annotated[
    str | None, typer.Option(help="From scratch: axial (default), coronal or sagittal.")
]
Spacing = Annotated[
    str | None,
    typer.Option(
        help="From scratch: keep (default), isotropic, or mm; for volumes keep, or mm between and "
        "within slices such as 3,1.5,1.5."
    ),
]
Neighbours = Annotated[
    int | None,
    typer.Option(
        help="From scratch: slices on each side of a slice that the network sees beside it, 0 to "
        "3; if not set, 1 where slices lie near each other in the first scan, else 0.",
        min=0,
        max=3,
    ),
]
Cache = Annotated[
    Path | None, typer.Option(help="Folder to keep preprocessed slices in, for later runs.")
]

TASK_NAMES = (
    "context-restoration, context-prediction, masked-pixels, mae, spark, models-genesis, "
    "volume-fusion, global-contrast, local-contrast, polycl or siamese"
)
"""All pretext tasks, for the help; written out, since help must not wait for their settings."""

PresetOption = Annotated[
    str | None,
    typer.Option(
        help="Settings of a paper, see napari-sslseg presets; other options go before them."
    ),
]
PatchSize = Annotated[
    int | None, typer.Option(help="Side of the patches in pixels; by slice size if unset.")
]
Selection = Annotated[
    str | None, typer.Option(help="Examples of polycl: scan, organ or scan+organ.")
]
OrganSlices = Annotated[
    Path | None,
    typer.Option(
        "--organ-slices",
        help='JSON of slices that hold the organ, {"scan": [3, 4]}; for polycl.',
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        help="What the network sees at once, in multiples of 16: height and width of slices (256 "
        "or 256,192); slices, height and width of crops (64,96,96), or whole for volumes."
    ),
]
Masks = Annotated[
    Path | None,
    typer.Option(
        help="Folder of masks with the names of their scans, for siamese and for polycl by organ."
    ),
]
Organ = Annotated[
    str | None,
    typer.Option(help="Label values of the organ in the masks, such as 1,2; all if not set."),
]
Left = Annotated[
    str | None, typer.Option(help="Label values of the left organ in the masks, for siamese.")
]
Right = Annotated[
    str | None, typer.Option(help="Label values of the right organ in the masks, for siamese.")
]
Crop = Annotated[
    str | None,
    typer.Option(help="Crop around each organ for siamese, in voxels: 64,112,112 if not set."),
]
Embedding = Annotated[
    str | None,
    typer.Option(help="What siamese compares: gap (average of the features) or flat (all)."),
]
Sides = Annotated[
    str | None,
    typer.Option(help="Sides of siamese: masks (default), or mirror images as the other side."),
]
StrategyOption = Annotated[
    str | None,
    typer.Option(
        help="How gently pretrained layers are changed: whole (default; all learn at once), "
        "sawtooth (first the decoder, then all), freeze-unfreeze (the encoder waits), layer-decay "
        "(early layers learn slower), or frozen-encoder (the encoder never changes)."
    ),
]
Unlabelled = Annotated[
    list[Path] | None,
    typer.Option(
        help="Folder of scans to learn from without labels, beside those with labels; the latter "
        "may be among them. Give the option again for each further folder. Slices that nobody "
        "annotated are learnt from as well. Takes almost twice as long."
    ),
]
ManyPieces = Annotated[
    bool,
    typer.Option(
        "--many-pieces",
        help="With --unlabelled: a structure may be in many pieces, such as lesions. Small loose "
        "pieces that the network finds count then; else they are not learnt from.",
    ),
]
MiddleShare = Annotated[
    float | None,
    typer.Option(help="Share of each scan's slices, around its middle, to learn from; all if 1."),
]
Sampling = Annotated[
    str | None,
    typer.Option(help="Places of the patches: poisson-disc (default) or uniform."),
]


def modality_of(name: str | None) -> Any:
    """``MR`` or ``CT`` in either case, or None."""
    if name is not None and name.upper() not in ("MR", "CT"):
        raise ConfigError(f"There is no modality {name}; choose MR or CT.")
    return name.upper() if name else None


def settings_for(
    kind: str,
    network: str | None,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    preprocessing: Any,
    compiled: bool = False,
    **others: Any,
) -> Any:
    """Settings of a stage, by the name of their class; a network of None is left unset."""
    from napari_sslseg.core.settings import stages as config

    fields: dict[str, Any] = {"preprocessing": preprocessing, **others}
    if network is not None:
        fields["network"] = config.named_network(network)
    stage = getattr(config, kind)
    # What no option sets is as it is in Python.
    fields["training"] = config.make_settings(
        config.Training,
        **stage.model_fields["training"].default.model_dump()
        | {
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "seed": seed,
            "compile": compiled,
        },
    )
    return config.make_settings(stage, **fields)


def scans_and_options(
    images: Sequence[Path],
    tasks: Sequence[str],
    *,
    plane: str | None,
    masks: Path | None,
    tags: Path | None,
    labels: Mapping[str, str | None],
    **others: Any,
) -> tuple[list[Any], dict[str, Any]]:
    """Scans, with masks if there are any, and the options of the pretext tasks that were given.

    ``labels`` are label values in the masks, as written: organ, left, right.
    """
    from napari_sslseg.core.scans.labelled import read_annotated
    from napari_sslseg.core.scans.sources import collect_scans, organ_slices, with_masks

    scans = collect_scans(images)
    if masks and not {"siamese", "polycl"} & set(tasks):
        raise ConfigError(
            f"The pretext task {tasks[0]} does not look at masks; leave --masks out, or choose "
            "siamese or polycl."
        )
    values = {name: numbers(text, f"label values ({name})") for name, text in labels.items()}
    tagged = read_annotated(tags) if tags else None
    if masks:
        scans = with_masks(scans, masks)
        if "polycl" in tasks and tagged is None:
            tagged = organ_slices(scans, plane_of(plane), values.pop("organ", None))
    return scans, given(organ_slices=tagged, **values, **others)


def plane_of(name: str | None) -> Any:
    """``axial`` if no plane is named."""
    if name not in (None, "axial", "coronal", "sagittal"):
        raise ConfigError(f"There is no plane {name}; choose axial, coronal or sagittal.")
    return name or "axial"


def given(**options: Any) -> dict[str, Any]:
    """Options that were given, by name; what they mean for others decides who takes them."""
    return {name: value for name, value in options.items() if value is not None}


def split_numbers(text: str, kind: Callable[[str], Any]) -> list[Any]:
    """Numbers between commas; none if one of them is no number."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        return []


def numbers(text: str | None, what: str = "classes") -> tuple[int, ...] | None:
    """Whole numbers between commas; None of none."""
    if text is None:
        return None
    found = tuple(split_numbers(text, int))
    if not found:
        raise ConfigError(f"The {what} {text} are no whole numbers, such as 1,2.")
    return found


# Without a preset; with one, what is not set comes from it.
PRETRAIN_STEPS, FINETUNE_STEPS = 1000, 400
BATCH_SIZE, VOLUME_BATCH_SIZE, LEARNING_RATE = 16, 2, 1e-3

BatchSize = Annotated[
    int | None, typer.Option(help="Slices per step, 16 if not set; crops of volumes, 2.", min=1)
]
LearningRate = Annotated[
    float | None, typer.Option(help="Learning rate after the warm-up; 0.001 if not set.")
]


def training_fields(
    steps: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    compiled: bool,
    seed: int | None,
) -> dict[str, Any]:
    """Fields of the training of a preset that options give a value."""
    found = given(steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    return found | given(compile=compiled or None)


def lengths(
    steps: int | None,
    usual: int,
    batch_size: int | None,
    learning_rate: float | None,
    preprocessing: Any,
) -> tuple[int, int, float]:
    """Steps, batch size and learning rate, those not set as they usually are."""
    volumes = preprocessing is not None and preprocessing.kind == "volumes"
    return (
        usual if steps is None else steps,
        (VOLUME_BATCH_SIZE if volumes else BATCH_SIZE) if batch_size is None else batch_size,
        LEARNING_RATE if learning_rate is None else learning_rate,
    )
