"""Draw docs/images/preview-*.png from phantoms: what each pretext task does.

Tasks that compare examples are drawn with a small network trained for a minute, to show how similar
it finds them; context restoration likewise, to show what it restores.
"""

import argparse
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from napari_sslseg import core
from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.pretext.pictures.figure import preview_figure
from napari_sslseg.core.pretext.pictures.preview import preview
from napari_sslseg.core.settings.pretext.registry import TaskSettings

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
PATIENTS = 6
LIVER, RIGHT_KIDNEY, LEFT_KIDNEY = 1, 2, 3
CROP = (32, 80, 80)
# A seed with which the number of no region covers another region.
SEEDS = {"local-contrast": 4424}
DEEP = (8, 8, 16, 16, 32, 32)
ALONE = ("context-prediction", "masked-pixels", "mae", "spark", "models-genesis", "volume-fusion")
TRAINED = ("context-restoration", "global-contrast", "local-contrast", "polycl")
VOLUMES = "context-restoration-3d"


def main() -> None:
    """Draw the named pictures, or all."""
    names = (*ALONE, *TRAINED, VOLUMES, "siamese")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="task", help=f"{', '.join(names)}; default all")
    chosen = parser.parse_args().tasks
    for name in chosen:
        if name not in names:
            parser.error(f"there is no picture {name}; choose from {', '.join(names)}")
    for name in chosen or names:
        drawn = BytesIO()
        preview_figure(make_preview(name)).savefig(drawn, dpi=90)
        # 256 colours are enough for grey values and one colour map, and halve the file size.
        small = Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
        small.save(IMAGES / f"preview-{name}.png", optimize=True)
        print(name)


def make_preview(name: str) -> PretextPreview:
    """Make the preview for a picture."""
    if name == "siamese":
        return kidneys()
    patients = [core.make_patient(number, "MR") for number in range(PATIENTS)]
    scans = [scan for scan, _ in patients]
    if name == VOLUMES:
        whole = core.VolumePreprocessing(modality="MR", size=(32, 128, 128))
        return preview(scans[:2], task="context-restoration", preprocessing=whole, slices=2)
    if name in ALONE:
        # Scaled to 0…1 for the one task whose paper does so; otherwise the default.
        unit = core.PRESETS["umapathy-2022-regression"].mr if name == "masked-pixels" else None
        return preview(scans[0], task=name, preprocessing=unit, slices=2)
    livers = {
        scan.name: tuple(np.flatnonzero((labels.data == LIVER).any(axis=(1, 2))).tolist())
        for scan, labels in patients
    }
    with tempfile.TemporaryDirectory() as folder:
        run = train(name, scans, livers, Path(folder))
        number = 2 if name == "context-restoration" else 3
        return preview(scans, init=run, slices=number, seed=SEEDS.get(name, 0))


def train(
    name: str, scans: list[core.Volume], livers: dict[str, tuple[int, ...]], folder: Path
) -> core.Run:
    """Train a small network on a pretext task; local contrast starts from global contrast."""
    tasks: dict[str, TaskSettings] = {
        "context-restoration": core.ContextRestoration(patch_size=8),
        "global-contrast": core.GlobalContrast(hidden=128, embedding=64),
        "local-contrast": core.LocalContrast(),
        "polycl": core.PolyCL(selection="organ", organ_slices=livers),
    }
    local = name == "local-contrast"
    before = train("global-contrast", scans, livers, folder / "first") if local else None
    # As deep as the network of the preset, since the size of the regions depends on the levels.
    deep = local or folder.name == "first"
    settings = core.PretrainSettings(
        network=core.UmapathyNetwork(widths=DEEP) if deep else core.Network.preset("tiny"),
        training=core.Training(
            steps=600 if name == "context-restoration" else 150,
            batch_size=12,
            learning_rate=3e-3,
        ),
        validation_share=0,
    )
    return core.pretrain(scans, tasks[name], out=folder / name, settings=settings, init=before)


def kidneys() -> PretextPreview:
    """Preview of left and right kidneys of CT phantoms."""
    patients = [
        core.make_patient(number, "CT", (48, 224, 224), (4.0, 1.6, 1.6))
        for number in range(PATIENTS)
    ]
    scans = [core.LabelledScan(scan, labels) for scan, labels in patients]
    with tempfile.TemporaryDirectory() as folder:
        run = core.pretrain(
            scans,
            core.SiameseSides(left=(LEFT_KIDNEY,), right=(RIGHT_KIDNEY,), crop=CROP),
            out=Path(folder) / "run",
            settings=core.PretrainSettings(
                network=core.Dense3dNetwork(),
                preprocessing=core.VolumePreprocessing(
                    modality="CT", windows=core.CT_WINDOWS["kidney"]
                ),
                training=core.Training(steps=60, batch_size=4, learning_rate=2e-3),
                validation_share=0,
            ),
        )
        return preview(scans, init=run, slices=3)


if __name__ == "__main__":
    main()
