"""Options that several commands share: names, types and help texts.

Defaults and lists of choices come from the settings of ``core``.
"""

from pathlib import Path
from typing import Annotated

import typer

from napari_sslseg.core.settings.networks import DEFAULT_NETWORK, NETWORKS
from napari_sslseg.core.settings.pretext.registry import DEFAULT_TASK, TASKS
from napari_sslseg.core.settings.pretext.siamese_sides import SiameseSides
from napari_sslseg.core.settings.training import BATCH_SIZE, LEARNING_RATE, VOLUME_BATCH_SIZE


def listed(names: list[str], last: str = "or") -> str:
    """Join names with commas, such as ``a, b or c``."""
    return f" {last} ".join([", ".join(names[:-1])] * (len(names) > 1) + names[-1:])


def describe_networks(default: bool = True) -> str:
    """List the names of the networks, of slices and of volumes, for the help."""
    names: dict[int, list[str]] = {2: [], 3: []}
    for name, network in NETWORKS.items():
        mark = " (default)" if default and name == DEFAULT_NETWORK else ""
        names[network.dimensions].append(name + mark)
    return f"{listed(names[2])} for slices, {listed(names[3])} for volumes"


# Where results go, and how a command runs

Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Overwrite = Annotated[bool, typer.Option(help="Replace an existing run in the same folder.")]
OverwriteFile = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")]
Resume = Annotated[
    bool,
    typer.Option(
        help="Resume the run in --out, even if it was killed, with its own settings and the same "
        "scans."
    ),
]
Threads = Annotated[
    int | None, typer.Option(help="Threads on the CPU; all cores but one if not set.", min=1)
]
Devices = Annotated[
    int | None,
    typer.Option(
        help="Devices on each machine to train on together, one process each; if not set, 1, or "
        "the number that torchrun or srun started.",
        min=1,
    ),
]
Nodes = Annotated[
    int | None,
    typer.Option(
        help="Machines to train on together; if not set, 1, or the number that torchrun or srun "
        "started.",
        min=1,
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the network, which takes about a minute and pays off in long trainings.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Seed = Annotated[int, typer.Option(help="Random seed.", min=0, max=2**31 - 1)]
RunSeed = Annotated[
    int | None, typer.Option(help="Random seed; 0 if not set.", min=0, max=2**31 - 1)
]
Cache = Annotated[
    Path | None, typer.Option(help="Folder to keep preprocessed slices in, for later runs.")
]

ClassNames = Annotated[
    Path | None,
    typer.Option(help='JSON of class names, {"1": "liver"}; those of the labels if not given.'),
]

IgnoreValue = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Label value of voxels whose class is unknown, such as 255; 0 for scribbles. They are "
        "left out of loss and scores.",
        min=0,
    ),
]
BackgroundValue = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Label value of the background; for scribbles, in which 0 is unknown.",
        min=0,
    ),
]
LabelledClassesOption = Annotated[
    Path | None,
    typer.Option(
        "--labelled-classes",
        metavar="FILE",
        help="Classes that are labelled in each scan, if not all are: CSV with the columns "
        'scan,classes ("p07,1 2"), or JSON {"p07": [1, 2]}.',
    ),
]
ClassMapOption = Annotated[
    Path | None,
    typer.Option(
        "--class-map",
        help="CSV (columns file, value, name, class) or JSON that says which structure in the "
        "label files is which class, where their names do not; - leaves a structure out.",
    ),
]

# Scans, network and preprocessing

Patients = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.csv",
        help="Table with the columns scan,patient; if not given, patients are guessed from the "
        "names of the files, or known by their DICOM headers.",
    ),
]

ModalityOption = Annotated[
    str | None, typer.Option(help="MR or CT, if the guess from the intensities is wrong.")
]
NetworkOption = Annotated[str | None, typer.Option(help=f"From scratch: {describe_networks()}.")]
ScratchPlane = Annotated[
    str | None, typer.Option(help="From scratch: axial (default), coronal or sagittal.")
]
PlaneOption = Annotated[
    str | None, typer.Option(help="Slicing plane: axial (default), coronal or sagittal.")
]
Spacing = Annotated[
    str | None,
    typer.Option(
        help="From scratch: planned (as coarse as scans and labelled structures allow; default for "
        "slices), keep (the pixels of the scans), isotropic, or mm; for volumes keep (default), or "
        "mm between and within slices such as 3,1.5,1.5."
    ),
]
Neighbours = Annotated[
    int | None,
    typer.Option(
        help="From scratch: adjacent slices on each side of a slice that the network also sees, 0 "
        "to 3; if not set, 1 if the slices of the first scan lie close together, else 0.",
        min=0,
        max=3,
    ),
]
Clip = Annotated[
    str | None,
    typer.Option(
        help="From scratch, MR only: how values are clipped. soft compresses values beyond the "
        "percentiles 0.5 and 99.5, hard cuts them off, none keeps all; other percentiles such as "
        "1,99 or 1,99,hard; soft if not set.",
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        help="Size of the network's input in multiples of 16: height and width of slices (256 or "
        "256,192); slices, height and width of crops (64,96,96), or whole for volumes."
    ),
]
MiddleShare = Annotated[
    float | None,
    typer.Option(
        metavar="FRACTION",
        help="Fraction of each scan's slices, around its middle, to train on; all if 1.",
    ),
]

# Training; a preset has its own defaults

PresetOption = Annotated[
    str | None,
    typer.Option(
        help="Settings of a paper, see napari-sslseg presets; other options take precedence."
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        help=f"Slices per step, {BATCH_SIZE} if not set; crops of volumes, {VOLUME_BATCH_SIZE}.",
        min=1,
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(help=f"Learning rate after the warm-up; {LEARNING_RATE:g} if not set."),
]
StrategyOption = Annotated[
    str | None,
    typer.Option(
        help="How pretrained layers are trained: whole (default; all layers at once), sawtooth "
        "(first the decoder, then all), freeze-unfreeze (the encoder is frozen at first), "
        "layer-decay (lower learning rate in early layers), or frozen-encoder (the encoder is "
        "never trained)."
    ),
]
Unlabelled = Annotated[
    list[Path] | None,
    typer.Option(
        help="Folder of scans to train on without labels, in addition to the labelled scans, which "
        "may be among them; repeat the option for further folders. Slices that are not annotated "
        "are used as well. Takes almost twice as long."
    ),
]
ManyPieces = Annotated[
    bool,
    typer.Option(
        "--many-pieces",
        help="With --unlabelled: structures may have many components, such as lesions. Small "
        "components that the network finds are then used for training; otherwise they are not.",
    ),
]

# Pretext tasks

TaskOption = Annotated[
    str | None,
    typer.Option(help=f"Pretext task: {listed(list(TASKS))}; {DEFAULT_TASK} if not set."),
]
PatchSize = Annotated[
    int | None,
    typer.Option(help="Side of the patches in pixels; depends on the slice size if not set."),
]
Sampling = Annotated[
    str | None, typer.Option(help="Positions of the patches: poisson-disc (default) or uniform.")
]
Selection = Annotated[
    str | None, typer.Option(help="Examples of polycl: scan, organ or scan+organ.")
]
OrganSlices = Annotated[
    Path | None,
    typer.Option(
        "--organ-slices",
        help='JSON of slices that contain the organ, {"scan": [3, 4]}; for polycl.',
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
    typer.Option(
        help="Label values or names of the organ in the masks, such as 1,2; all if not set."
    ),
]
Left = Annotated[
    str | None,
    typer.Option(help="Label values or names of the left organ in the masks, for siamese."),
]
Right = Annotated[
    str | None,
    typer.Option(help="Label values or names of the right organ in the masks, for siamese."),
]
Sides = Annotated[
    str | None,
    typer.Option(
        help="Sides for siamese: masks (default; given by the masks), or mirror (a mirror image is "
        "the other side)."
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(
        help="Crop around each organ for siamese, in voxels; "
        f"{','.join(map(str, SiameseSides.model_fields['crop'].default))} if not set."
    ),
]
Embedding = Annotated[
    str | None,
    typer.Option(help="Features that siamese compares: gap (their average) or flat (all)."),
]
SequenceOption = Annotated[
    str | None,
    typer.Option(
        "--sequence",
        metavar="END",
        help="End of the names of the scans to use if each case has several, such as T1w, or "
        "0000 for a channel of nnU-Net or a volume of a file with four axes.",
    ),
]
