"""PolyCL (Moseley & Imran): slices of one scan, or with the same organ, are positives."""

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
        gradient_clip=None,  # The paper does not clip.
    )


DECISIONS = (
    Decision(
        what="MR scans",
        printed="CT only",
        here="MR scaled to 0…1 from the 0.5th to the 99.5th percentile of the scan",
        why="MR has no window in HU.",
    ),
    Decision(
        what="Scaling to 0…1",
        printed="0–1 normalised, window of 400 HU around 40 HU",
        here="−160…240 HU become 0…1",
        why="The authors' program scales by the extremes of all scans after the window, so that "
        "values lie between 0.33 and 0.37.",
    ),
    Decision(
        what="Middle of the scans",
        printed="only the middle 30 % of the slices",
        here="the same, in the pretraining and for the annotated slices; predictions are of whole "
        "scans",
        why="Users want all slices segmented. The network was not trained on slices above and "
        "below the middle, so check them, or set the middle fraction to 1.",
    ),
    Decision(
        what="Negatives",
        printed="a loss with one negative for each anchor, temperature 1/M",
        here="exactly one, drawn again in every epoch; M is the batch size",
        why="The authors' program draws all examples once.",
    ),
    Decision(
        what="Organ slices",
        printed="presence from the data",
        here="numbers of the slices that contain the organ, given by the user",
        why="Labels of held-out scans must not be used.",
    ),
    Decision(
        what="Details of the network, and the optimiser",
        printed="encoder and decoder of five levels; not given",
        here="16 to 256 channels, dropout 0.25, bilinear up-sampling; Adam",
        why="As in the authors' program, which takes the network from MultiMix.",
    ),
    Decision(
        what="Dice loss",
        printed="not given",
        here="of each slice, smoothed by 1",
        why="As in the authors' program.",
    ),
    Decision(
        what="Best weights",
        printed="not given",
        here="those of the best validation",
        why="As in the fine-tuning of the authors' program.",
    ),
)

VARIANTS = {
    "scan": (
        "polycl-s",
        "Tell scans apart",
        "Slices of one scan are positives, slices of other scans negatives",
    ),
    "organ": (
        "polycl-o",
        "Tell slices with and without the organ apart",
        "Slices that all contain the organ, or all do not, are positives",
    ),
    "scan+organ": (
        "polycl-m",
        "Tell scans and organs apart",
        "Slices of one scan are positives if all or none of them contain the organ",
    ),
}
EXTENSION = Decision(
    what="Selection",
    printed="by scan and organ only in a later paper (arXiv 2505.19208)",
    here="with all other settings of the first paper",
    why="The settings of the later paper were not available.",
)


def _preset(selection: Selection) -> Preset:
    name, title, what = VARIANTS[selection]
    return Preset(
        name=name,
        title=title,
        paper="Moseley & Imran, PolyCL",
        reference="Moseley & Imran, PolyCL: context-aware contrastive learning for image "
        "segmentation",
        summary=f"{what}; the encoder is then the start of the segmentation.",
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
