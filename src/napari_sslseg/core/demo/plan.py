"""Length and resolution of the demonstration."""

from collections.abc import Sequence
from dataclasses import dataclass

from napari_sslseg.core.samples.build import default_preprocessing
from napari_sslseg.core.samples.planned_spacing import with_planned_spacing
from napari_sslseg.core.scans.labelled import as_volume, scan_geometry
from napari_sslseg.core.scans.series import Source
from napari_sslseg.core.settings.preprocessing import Preprocessing
from napari_sslseg.core.settings.training import BATCH_SIZE, Training

PIXELS_PER_STEP = 2**16
"""Pixels in one batch: enough for a stable step, few enough for a laptop."""

BATCH_RANGE = (2, BATCH_SIZE)
STEP_RANGE = (60, 5000)


@dataclass(frozen=True)
class DemoPlan:
    """Size and length of a demonstration.

    Lengths are given in pixels, so that large slices take about as long as small ones.

    Attributes
    ----------
    patients : int
        Number of phantom patients, if there are no scans.
    labelled : tuple of int
        Numbers of labelled volumes to fine-tune on, in every arm.
    repeats : int
        Number of seeds; each draws its own labelled volumes.
    test_share : float
        Fraction of the subjects that is held out.
    test_most : int
        Largest number of subjects that is held out.
    pretrain_megapixels, finetune_megapixels : float
        Length of each training, in millions of pixels.
    network : str
        Name of the network.
    """

    patients: int
    labelled: tuple[int, ...]
    repeats: int
    test_share: float
    test_most: int
    pretrain_megapixels: float
    finetune_megapixels: float
    network: str = "small"

    def training(self, size: tuple[int, ...], megapixels: float, seed: int) -> Training:
        """Settings of a training on slices of this size; the rest are defaults."""
        pixels = size[0] * size[1]
        batch = min(max(PIXELS_PER_STEP // pixels, BATCH_RANGE[0]), BATCH_RANGE[1])
        steps = round(megapixels * 1e6 / (batch * pixels))
        steps = min(max(steps, STEP_RANGE[0]), STEP_RANGE[1])
        return Training(
            steps=steps,
            batch_size=batch,
            gradient_clip=None,  # The published results were measured without.
            seed=seed % 2**31,
            validate_every=max(1, steps // 10),
        )


def describe_length(plan: DemoPlan, size: tuple[int, ...]) -> str:
    """Say how long the trainings are, and how much shorter than those of the full plan."""
    used, full = (
        (
            one.training(size, one.pretrain_megapixels, 0).steps,
            one.training(size, one.finetune_megapixels, 0).steps,
        )
        for one in (plan, FULL)
    )
    text = f"Pretraining: {used[0]:,} steps. Each fine-tuning: {used[1]:,} steps."
    if used[0] < full[0] or used[1] < full[1]:
        text += f" A short run: the full one has {full[0]:,} and {full[1]:,}."
    return text


FAST = DemoPlan(16, (2,), 1, 0.25, 12, 40, 30)
FULL = DemoPlan(24, (1, 4), 2, 0.25, 40, 100, 30)


def demo_preprocessing(images: Sequence[Source]) -> Preprocessing:
    """Default preprocessing of the modality, with the same pixels in all trainings."""
    geometries = [scan_geometry(path) for path in images]
    settings = default_preprocessing(as_volume(images[0]).modality, spacing=geometries[0].spacing)
    return with_planned_spacing(settings, geometries)[0]
