"""Dominic et al. 2023: context restoration, the best of the designs compared there."""

from napari_sslseg.core.settings.networks import Network
from napari_sslseg.core.settings.preprocessing import CT_WINDOWS, Preprocessing
from napari_sslseg.core.settings.presets.preset import NO_AUGMENTATION, Decision, Preset, Stage
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings
from napari_sslseg.core.settings.training import EarlyStopping, Training

MOST_EPOCHS = 100


def _training(min_delta: float, patience: int) -> Training:
    return Training(
        epochs=MOST_EPOCHS,
        batch_size=9,
        learning_rate=1e-3,
        betas=(0.99, 0.995),
        schedule="step-decay",
        gradient_clip=None,  # The paper does not clip.
        early_stopping=EarlyStopping(min_delta=min_delta, patience=patience),
    )


DOMINIC = Preset(
    name="dominic-2023",
    title="Restore swapped patches",
    paper="Dominic et al. 2023",
    reference="Dominic et al. 2023, Improving data-efficiency and robustness of medical imaging "
    "segmentation using inpainting-based self-supervised learning",
    summary="Patches of 32 × 32 pixels swap places and the network restores the slice; its encoder "
    "is the start of the segmentation, in which all layers are trained at once.",
    network=Network.preset("paper"),
    mr=Preprocessing(modality="MR", normalize="volume", clip_percentiles=(0, 100)),
    ct=Preprocessing(modality="CT", normalize="slice", windows=CT_WINDOWS["three"]),
    stages=(
        Stage(
            task="context-restoration",
            options={"patch_size": 32, "sampling": "poisson-disc", "min_area": 0.25},
            settings=PretrainSettings(training=_training(50, 4)),
        ),
    ),
    finetuning=FinetuneSettings(
        training=_training(1e-3, 10),
        transfer="encoder",
        loss="dice",
        augmentation=NO_AUGMENTATION,
        foreground_share=0,
    ),
    decisions=(
        Decision(
            what="Augmentation of the fine-tuning",
            printed="not mentioned",
            here="none",
            why="The paper mentions none.",
        ),
        Decision(
            what="Length",
            printed="until early stopping, no number of epochs",
            here=f"until early stopping, at most {MOST_EPOCHS} epochs",
            why="Without validation subjects the training would never end.",
        ),
        Decision(
            what="Early stopping of the fine-tuning",
            printed="Dice loss on the validation set, threshold 0.001, patience of 10 epochs",
            here="Dice of the predicted labels, same threshold and patience",
            why="This metric also selects the best weights.",
        ),
        Decision(
            what="Threshold of the early stopping of the pretraining",
            printed="50, on slices of 512 × 512 pixels",
            here="50 for any size",
            why="The loss is a sum over pixels, so smaller slices stop earlier; lower it for them.",
        ),
        Decision(
            what="Learning rate",
            printed="decayed by 0.9 every 2 epochs",
            here="dropped after the first epoch, then after every second one; not below 1e-8",
            why="As in the authors' program.",
        ),
        Decision(
            what="Normalisation layers",
            printed="group normalisation",
            here="group normalisation of each image separately",
            why="The authors' program keeps moving averages and uses them in transferred layers, "
            "which is then not group normalisation.",
        ),
        Decision(
            what="Number of patches",
            printed="until the corrupted area equals or exceeds a quarter",
            here="the same, also if the side of the slice is not a multiple of the patch",
            why="The authors' program rounds down, and stays below a quarter unless the slice has "
            "512 × 512 pixels.",
        ),
        Decision(
            what="Plane and size of the slices",
            printed="slices of 512 × 512 pixels",
            here="axial slices of their own size",
            why="Other scans have other sizes; 32 × 32 patches suit 512 × 512 slices, smaller "
            "slices take smaller patches.",
        ),
        Decision(
            what="Optimiser's epsilon",
            printed="not given",
            here="1e-8",
            why="As in the authors' program and in PyTorch.",
        ),
    ),
)
