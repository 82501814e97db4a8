"""PolyCL (Moseley & Imran): slices of one scan, or with the same organ, are alike."""

from napari_sslseg.core.settings.networks import MultiMixNetwork
from napari_sslseg.core.settings.preprocessing import CT_WINDOWS, Preprocessing
from napari_sslseg.core.settings.presets.preset import NO_AUGMENTATION, Decision, Preset, Stage
from napari_sslseg.core.settings.pretext.polycl import Selection
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings
from napari_sslseg.core.settings.training import Training

SIZE = (256, 256)
MIDDLE = 0.3


def _training(learning_rate: float, batch_size: int) -> Training:
    return Training(
        epochs=100,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule="cosine-restarts",
        restart_every=10,
    )


DECISIONS = (
    Decision(
        what="MR scans",
        printed="CT alone",
        here="MR scaled to 0…1 from the 0.5th to the 99.5th percentile of the scan",
        why="There is no window of HU for MR.",
    ),
    Decision(
        what="Scaling to 0…1",
        printed="0–1 normalised, window of 400 HU around 40 HU",
        here="−160…240 HU become 0…1",
        why="The authors' program scales by the extremes of all scans after the window, which "
        "leaves values between 0.33 and 0.37.",
    ),
    Decision(
        what="Middle of the scans",
        printed="only the middle 30 % of the slices",
        here="the same, in the pretraining and among the annotated slices; predictions are of "
        "whole scans",
        why="A user wants all slices segmented. Above and below the middle the network has learnt "
        "from none, so look at them, or set the middle share to 1.",
    ),
    Decision(
        what="Negatives",
        printed="a loss with one negative for each anchor, temperature 1/M",
        here="exactly one, drawn anew in every epoch; M is the batch size that is set",
        why="The authors' program draws all examples once.",
    ),
    Decision(
        what="Organ slices",
        printed="presence from the data",
        here="numbers of the slices that hold the organ, as the user tells them",
        why="The labels of scans that are held out must not be asked.",
    ),
    Decision(
        what="Details of the network, and the optimiser",
        printed="encoder and decoder of five levels; not said",
        here="16 to 256 channels, dropout 0.25, bilinear up-sampling; Adam",
        why="So it is in the authors' program, which takes the network from MultiMix.",
    ),
    Decision(
        what="Dice loss",
        printed="not said",
        here="of each slice, smoothed by 1",
        why="So it is in the authors' program.",
    ),
    Decision(
        what="Best weights",
        printed="not said",
        here="those of the best validation",
        why="So the authors' program does in the fine-tuning.",
    ),
)

HOW = {
    "scan": ("polycl-s", "Tell scans apart", "Slices of one scan are alike, those of others not"),
    "organ": (
        "polycl-o",
        "Tell slices with and without the organ apart",
        "Slices with the organ are alike, and so are those without it",
    ),
    "scan+organ": (
        "polycl-m",
        "Tell scans and organs apart",
        "Slices of one scan are alike if all or none of them hold the organ",
    ),
}
EXTENSION = Decision(
    what="Selection",
    printed="by scan and organ only in a later paper (arXiv 2505.19208)",
    here="with all other settings of the first paper",
    why="The settings of the later paper were not at hand.",
)


def _preset(selection: Selection) -> Preset:
    name, title, what = HOW[selection]
    return Preset(
        name=name,
        title=title,
        paper="Moseley & Imran, PolyCL",
        reference="Moseley & Imran, PolyCL: context-aware contrastive learning for image "
        "segmentation",
        summary=f"{what}; the encoder that has learnt it then starts the segmentation.",
        network=MultiMixNetwork(),
        mr=Preprocessing(modality="MR", normalize="unit", size=SIZE, fit="resize"),
        ct=Preprocessing(
            modality="CT",
            normalize="unit",
            windows=CT_WINDOWS["soft-tissue"],
            size=SIZE,
            fit="resize",
        ),
        stages=(
            Stage(
                task="polycl",
                options={"selection": selection},
                settings=PretrainSettings(training=_training(1e-4, 20), middle_share=MIDDLE),
            ),
        ),
        finetuning=FinetuneSettings(
            training=_training(1e-3, 10),
            transfer="encoder",
            loss="dice-per-sample",
            augmentation=NO_AUGMENTATION,
            foreground_share=0,
            middle_share=MIDDLE,
        ),
        decisions=(*DECISIONS, EXTENSION) if selection == "scan+organ" else DECISIONS,
    )


POLYCL_S = _preset("scan")
POLYCL_O = _preset("organ")
POLYCL_M = _preset("scan+organ")
