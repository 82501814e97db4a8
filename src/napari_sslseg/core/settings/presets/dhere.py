"""Dhere & Sivaswamy 2021: a siamese network distinguishes left from right kidneys."""

from typing import Any

from napari_sslseg.core.settings.networks import Dense3dNetwork
from napari_sslseg.core.settings.preprocessing import CT_WINDOWS, VolumePreprocessing
from napari_sslseg.core.settings.presets.preset import NO_AUGMENTATION, Decision, Preset, Stage
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings
from napari_sslseg.core.settings.training import Training

PREPARED: dict[str, Any] = {
    "normalize": "volume",
    "spacing": (3.22, 1.62, 1.62),
    "size": "whole",
    "padding": "zero",
}

TRAINING = Training(
    epochs=200,
    batch_size=1,
    learning_rate=1e-3,
    weight_decay=1e-2,
    schedule="plateau",
    plateau_patience=3,
    gradient_clip=None,  # The paper does not clip.
)

DHERE = Preset(
    name="dhere-2019",
    title="Tell left from right organs",
    paper="Dhere & Sivaswamy",
    reference="Dhere & Sivaswamy, Self-supervised learning for segmentation",
    summary="A siamese network learns whether two kidneys are of the same side; its encoder is the "
    "start of the segmentation of whole volumes.",
    network=Dense3dNetwork(),
    mr=VolumePreprocessing(modality="MR", **PREPARED),
    ct=VolumePreprocessing(modality="CT", windows=CT_WINDOWS["kidney"], **PREPARED),
    stages=(
        Stage(
            task="siamese",
            options={"crop": (64, 112, 112), "margin": 1.0, "embedding": "flat"},
            settings=PretrainSettings(training=TRAINING, validation_share=0.2),
        ),
    ),
    finetuning=FinetuneSettings(
        training=TRAINING,
        transfer="encoder",
        loss="bce-to-dice",
        reconstruction_weight=0.1,
        augmentation=NO_AUGMENTATION,
        foreground_share=0,
    ),
    decisions=(
        Decision(
            what="Length of the pretraining",
            printed="not given; 200 epochs of fine-tuning",
            here="200 epochs",
            why="The paper gives no number.",
        ),
        Decision(
            what="Learning rate over time",
            printed="an initial one of 0.001",
            here="halved after 3 epochs without improvement of the validation",
            why="As in the authors' program.",
        ),
        Decision(
            what="From cross entropy to Dice",
            printed="weights 0.6 and 0.4 at first, then changed by the same amount",
            here="linearly to 0.2 and 0.8 in the last epoch",
            why="Versions of the authors' program have both.",
        ),
        Decision(
            what="Weights of the classes in the cross entropy",
            printed="weighted, without numbers",
            here="1",
            why="The numbers of the authors' program changed between its versions.",
        ),
        Decision(
            what="Soft Dice",
            printed="that of V-Net, which squares the denominators",
            here="without squares, of each volume, smoothed by 1e-4",
            why="As in the authors' program.",
        ),
        Decision(
            what="Weight of the reconstruction",
            printed="not given",
            here="0.1, and 0.9 for the segmentation",
            why="As in the authors' program.",
        ),
        Decision(
            what="Distance",
            printed="d = ‖a − b‖², called the L2 distance",
            here="d = ‖a − b‖, for each pair separately",
            why="As in the authors' program; with the square the loss would be of the fourth "
            "power.",
        ),
        Decision(
            what="Pairs",
            printed="not given",
            here="half of them of the same side, both members of different subjects",
            why="The authors' program takes any two crops; two kidneys of one subject are then "
            "always of opposite sides.",
        ),
        Decision(
            what="Transitions of the encoder",
            printed="a strided convolution, then a 1³ convolution",
            here="the strided convolution last",
            why="As in the authors' program.",
        ),
        Decision(
            what="Embedding",
            printed="the final layer of the encoder",
            here="all of its last features, 28,224 numbers, of a crop of 64 × 112 × 112",
            why="As in the authors' program. Their distances at the start are so large that "
            "opposite sides are hardly pushed apart; the default of the task is their average.",
        ),
        Decision(
            what="Tumours",
            printed="kidneys",
            here="as in the labels",
            why="The authors count tumours as kidney. For the pretraining join the values, such as "
            "--organ 1,2; for the fine-tuning merge the two labels beforehand.",
        ),
        Decision(
            what="MR scans",
            printed="CT only, clipped to −80…300 HU",
            here="MR clipped to its 0.5th and 99.5th percentiles",
            why="MR has no window in HU.",
        ),
    ),
)
