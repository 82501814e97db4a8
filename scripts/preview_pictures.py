"""Draw docs/images/preview-*.png from phantoms: what each pretext task does.

Tasks that compare examples are drawn with a small network that has been trained for a minute, to
show how alike it finds them.
"""

import sys
import tempfile
from io import BytesIO
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from napari_sslseg import core
from napari_sslseg.core.config import Dense3dNetwork
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.organ_boxes import organ_boxes, organ_crop
from napari_sslseg.core.preprocess import normalize
from napari_sslseg.core.pretext.base import PretextPreview
from napari_sslseg.core.pretext.figure import preview_figure
from napari_sslseg.core.preview import preview

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
PATIENTS = 6
LIVER, RIGHT_KIDNEY, LEFT_KIDNEY = 1, 2, 3
CROP = (32, 80, 80)
ALONE = ("context-prediction", "masked-pixels", "mae", "spark", "models-genesis", "volume-fusion")
COMPARING = ("global-contrast", "polycl", "siamese")


def main() -> None:
    """Draw the pictures that are named, or all."""
    for task in sys.argv[1:] or (*ALONE, *COMPARING):
        shown = kidneys() if task == "siamese" else slices_of(task)
        drawn = BytesIO()
        preview_figure(shown).savefig(drawn, dpi=90)
        # 256 colours are enough for greys and one colour map, at half of the size.
        small = Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
        small.save(IMAGES / f"preview-{task}.png", optimize=True)
        print(task)


def slices_of(task: str) -> PretextPreview:
    """Preview on slices of MR phantoms."""
    patients = [core.make_patient(number, "MR") for number in range(PATIENTS)]
    scans = [scan for scan, _ in patients]
    if task in ALONE:
        return preview(scans[0], task=task, slices=2)
    livers = {
        scan.name: tuple(np.flatnonzero((labels.data == LIVER).any(axis=(1, 2))).tolist())
        for scan, labels in patients
    }
    settings = {
        "global-contrast": core.GlobalContrast(hidden=128, embedding=64),
        "polycl": core.PolyCL(selection="organ", organ_slices=livers),
    }
    with tempfile.TemporaryDirectory() as folder:
        run = core.pretrain(
            scans,
            settings[task],
            out=Path(folder) / "run",
            settings=core.PretrainSettings(
                network=core.Network.preset("tiny"),
                training=core.Training(steps=150, batch_size=12, learning_rate=3e-3),
                validation_share=0,
            ),
        )
        return preview(scans, init=run, slices=3)


def kidneys() -> PretextPreview:
    """Preview of left and right kidneys of CT phantoms."""
    crops, sides, scan_index = [], [], []
    for number in range(PATIENTS):
        scan, labels = core.make_patient(number, "CT", (48, 224, 224), (4.0, 1.6, 1.6))
        settings = core.Preprocessing(modality="CT", windows=core.CT_WINDOWS["kidney"])
        volume = normalize(scan, settings).swapaxes(0, 1)
        for box in organ_boxes(labels.data, left=LEFT_KIDNEY, right=RIGHT_KIDNEY):
            crops.append(organ_crop(volume, box, CROP))
            sides.append(box.side)
            scan_index.append(number)
    images = torch.from_numpy(np.stack(crops))
    store = SimpleNamespace(
        scans=[SimpleNamespace(name=str(n), subject=str(n)) for n in range(PATIENTS)],
        scan_index=np.array(scan_index),
        sides=np.array(sides),
    )
    task = core.SiameseSides(left=LEFT_KIDNEY, right=RIGHT_KIDNEY, crop=CROP).build(CROP)
    task.know(store)
    torch.manual_seed(0)
    model = task.wrap(make_network(Dense3dNetwork(), 1, 1))
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    batches = task.batches(np.arange(len(images)), 4)(np.random.default_rng(0))
    generator = torch.Generator().manual_seed(0)
    for batch in islice(batches, 60):
        optimiser.zero_grad()
        task.loss(model, images[batch], task.sample_slices(batch, generator)).backward()
        optimiser.step()
    batch = next(task.batches(np.arange(len(images)), 3)(np.random.default_rng(2)))
    return task.preview(images[batch], task.sample_slices(batch, generator), model)


if __name__ == "__main__":
    main()
