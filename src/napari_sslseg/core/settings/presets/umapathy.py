"""Umapathy et al. 2022: regression of masked pixels, or global and then local contrast."""

from napari_sslseg.core.settings.augmentation import Augmentation
from napari_sslseg.core.settings.networks import UmapathyNetwork
from napari_sslseg.core.settings.preprocessing import CT_WINDOWS, Preprocessing
from napari_sslseg.core.settings.presets.preset import Decision, Preset, Stage
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings
from napari_sslseg.core.settings.training import Training

PAPER = "Umapathy et al. 2022"
REFERENCE = (
    "Umapathy et al. 2022, Learning to segment with limited annotations: self-supervised "
    "pretraining with regression and contrastive loss in MRI"
)
MR = Preprocessing(modality="MR", normalize="unit")
CT = Preprocessing(modality="CT", normalize="unit", windows=CT_WINDOWS["soft-tissue"])


def _training(epochs: int, batch_size: int = 16) -> Training:
    return Training(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=1e-3,
        schedule="plateau",
        plateau_patience=10,
        gradient_clip=None,  # The paper does not clip.
    )


FINETUNING = FinetuneSettings(
    training=_training(500),
    transfer="encoder+decoder",
    loss="dice-multilabel",
    # Translation, crop and elastic deformation as in the paper, which gives no strengths.
    augmentation=Augmentation(rotation=0, intensity=0, noise=0),
    foreground_share=0,
)

DECISIONS = (
    Decision(
        what="Scaling to 0…1",
        printed="normalised to [0, 1]",
        here="from the 0.5th to the 99.5th percentile of the scan; on CT from −160 to 240 HU",
        why="A single bright voxel would darken all others. The paper has only MR.",
    ),
    Decision(
        what="Widths of the network",
        printed="2D U-Net-like",
        here="16, 32, 64, 128, 128, 128 channels",
        why="Those of Chaitanya et al. 2020, on which the paper is based.",
    ),
    Decision(
        what="Patience of the plateau",
        printed="halved when the validation loss plateaued",
        here="after 10 epochs without improvement",
        why="The paper gives no number.",
    ),
    Decision(
        what="Metric of the fine-tuning",
        printed="the validation loss",
        here="the validation Dice",
        why="This metric also selects the best weights.",
    ),
    Decision(
        what="Multi-label Dice loss",
        printed="by name, without a formula",
        here="mean over classes and background of one minus Dice, summed over the batch",
        why="The background is then one label of several.",
    ),
    Decision(
        what="Strength of the augmentation",
        printed="random translation, crops, and elastic deformations",
        here="shifts up to 10 %, crops up to 25 %, control points moved by about 3 % of the slice",
        why="The paper gives no numbers; these are our defaults.",
    ),
)

_BATCHES = Decision(
    what="Batch size",
    printed="not given",
    here="16 slices",
    why="Our default, which fits small graphics cards.",
)

REGRESSION = Preset(
    name="umapathy-2022-regression",
    title="Restore masked pixels",
    paper=PAPER,
    reference=REFERENCE,
    summary="A tenth of the pixels become noise and the network predicts their values; encoder and "
    "decoder are the start of the segmentation.",
    network=UmapathyNetwork(),
    mr=MR,
    ct=CT,
    stages=(
        Stage(
            task="masked-pixels",
            options={"share": 0.1, "sigma": 0.01},
            settings=PretrainSettings(training=_training(1000)),
        ),
    ),
    finetuning=FINETUNING,
    decisions=(
        *DECISIONS,
        _BATCHES,
        Decision(
            what="Size of the loss",
            printed="L1 norm over the corrupted pixels",
            here="the same divided by their number",
            why="The learning rate then does not depend on the size of the slices.",
        ),
        Decision(
            what="What is transferred",
            printed="all but the projection head",
            here="encoder and decoder, but not the last convolution",
            why="The last convolution predicts intensities, not classes.",
        ),
    ),
)

CONTRASTIVE = Preset(
    name="umapathy-2022-contrastive",
    title="Tell slices, then places apart",
    paper=PAPER,
    reference=REFERENCE,
    summary="First the encoder learns to tell slices apart in any crop, then the decoder learns to "
    "tell places of a slice apart; both are the start of the segmentation.",
    network=UmapathyNetwork(),
    mr=MR,
    ct=CT,
    stages=(
        Stage(
            task="global-contrast",
            options={"temperature": 0.1},
            settings=PretrainSettings(training=_training(1000, 32)),
        ),
        Stage(
            task="local-contrast",
            options={"temperature": 0.1},
            settings=PretrainSettings(training=_training(1000, 32)),
        ),
    ),
    finetuning=FINETUNING,
    decisions=(
        *DECISIONS,
        Decision(
            what="Batch size",
            printed="not given",
            here="32 slices to contrast, 16 to fine-tune",
            why="More slices are more negatives.",
        ),
        Decision(
            what="Length of the two stages",
            printed="1000 epochs of pretraining",
            here="1000 epochs each",
            why="The paper does not say how the epochs are divided.",
        ),
        Decision(
            what="Views",
            printed="crop, contrast and brightness, without numbers",
            here="crops of 30 to 100 % of the area, contrast and brightness up to 30 %; in the "
            "second stage contrast and brightness alone",
            why="After Chaitanya et al. 2020, whose crop is 100 pixels for any size of slice, and "
            "who change values of 0…1 rather than relative to the mean and deviation of the slice.",
        ),
        Decision(
            what="Local regions",
            printed="random local patches",
            here="13 random regions of 3 × 3 places after the third level of the decoder, which do "
            "not overlap; five others in each view are negatives; the encoder is frozen",
            why="Numbers, level and freezing are those of Chaitanya et al. 2020, the places those "
            "of the paper.",
        ),
        Decision(
            what="Projection head",
            printed="a projection head",
            here="on the average of the features, 1024 units, 128 numbers",
            why="The program of Chaitanya et al. 2020 has it on all features, which works for one "
            "size of slices only.",
        ),
    ),
)
