"""Settings of pretraining and fine-tuning, as frozen data. They are saved with each run.

Titles and descriptions also label the forms of the napari plugin.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from napari_sslseg.core.common.settings_base import (
    Settings as Settings,
    fill_fields,
    make_settings as make_settings,
)
from napari_sslseg.core.common.sizes import MOST_CLASSES
from napari_sslseg.core.settings.augmentation import Augmentation as Augmentation
from napari_sslseg.core.settings.networks import (
    DEFAULT_NETWORK as DEFAULT_NETWORK,
    NETWORK_WIDTHS as NETWORK_WIDTHS,
    Dense3dNetwork as Dense3dNetwork,
    DynUNet2dNetwork as DynUNet2dNetwork,
    DynUNet3dNetwork as DynUNet3dNetwork,
    EfficientNetwork as EfficientNetwork,
    MultiMixNetwork as MultiMixNetwork,
    Network as Network,
    NetworkSettings as NetworkSettings,
    UmapathyNetwork as UmapathyNetwork,
    named_network as named_network,
)
from napari_sslseg.core.settings.preprocessing import (
    CT_WINDOWS as CT_WINDOWS,
    AnyPreprocessing as AnyPreprocessing,
    Preprocessing as Preprocessing,
    VolumePreprocessing as VolumePreprocessing,
    Window as Window,
)
from napari_sslseg.core.settings.self_training import (
    AVERAGE_DECAY,
    SelfTraining as SelfTraining,
    self_trained as self_trained,
)
from napari_sslseg.core.settings.training import (
    StageKind,
    Training,
    default_training,
    stage_defaults,
)

Transfer = Literal["encoder", "encoder+decoder"]
"""Which parts of a pretrained network start the fine-tuning."""

TRANSFER: Transfer = "encoder"
"""Default of the fine-tuning."""

LossKind = Literal["dice-ce", "dice", "dice-per-sample", "dice-multilabel", "bce-to-dice"]
"""Loss of the fine-tuning, see :mod:`napari_sslseg.core.segmentation.loss`."""

Strategy = Literal["whole", "sawtooth", "freeze-unfreeze", "layer-decay", "frozen-encoder"]
"""When and how fast the pretrained layers are trained.

See :mod:`napari_sslseg.core.training.layer_plans`.
"""

FROZEN_SHARES: dict[Strategy, float] = {"sawtooth": 0.1, "freeze-unfreeze": 0.3}
"""Strategies that freeze the encoder at first, with the default fraction of the steps."""

LAYER_DECAY = 0.75
"""Default ratio of the learning rates of two successive levels of the encoder."""


class StageSettings(Settings):
    """Settings that pretraining and fine-tuning have in common.

    Fields of ``training`` that are not set take the defaults of the stage and of the network,
    see :func:`~napari_sslseg.core.settings.training.stage_defaults`.
    """

    stage: ClassVar[StageKind]

    preprocessing: AnyPreprocessing | None
    network: NetworkSettings
    training: Training
    preset: str | None = Field(
        None,
        title="Preset",
        description="Name of the preset from which these settings were taken.",
    )
    middle_share: float = Field(
        1.0,
        gt=0,
        le=1,
        title="Middle fraction",
        description="Fraction of the slices of each scan, around its middle, to train on; 0.3 in "
        "PolyCL, since the organs are there. Not for networks of volumes.",
    )

    @model_validator(mode="after")
    def _check_training(self) -> Self:
        return self._fill_training()

    def _fill_training(self) -> Self:
        defaults = stage_defaults(self.stage, self.network.dimensions)
        if self.training.epochs is not None:
            defaults.pop("steps")  # The epochs replace them.
        self.__dict__["training"] = fill_fields(self.training, defaults)
        return self

    def with_network(self, network: NetworkSettings, preprocessing: AnyPreprocessing) -> Self:
        """Copy the settings with another network and preprocessing.

        Fields of the training that are not set take the defaults of the network.
        """
        copy = self.model_copy(update={"network": network, "preprocessing": preprocessing})
        return copy._fill_training()


class PretrainSettings(StageSettings):
    """Settings of the self-supervised pretraining, without its pretext task."""

    stage: ClassVar[StageKind] = "pretrain"

    preprocessing: AnyPreprocessing | None = Field(
        None, description="Chosen from the modality of the scans if not set."
    )
    network: NetworkSettings = named_network(DEFAULT_NETWORK)
    training: Training = default_training("pretrain")
    validation_share: float = Field(
        0.1,
        ge=0,
        le=0.5,
        title="Validation fraction",
        description="Fraction of the subjects used for validation; none if there are fewer than "
        "five subjects.",
    )


class FinetuneSettings(StageSettings):
    """Settings of the supervised fine-tuning on annotated slices."""

    stage: ClassVar[StageKind] = "finetune"

    preprocessing: AnyPreprocessing | None = Field(
        None,
        description="That of the pretraining; from scratch, chosen from the modality of the scans.",
    )
    network: NetworkSettings = named_network(DEFAULT_NETWORK)
    training: Training = default_training("finetune")
    transfer: Transfer = Field(
        TRANSFER, title="Transfer", description="Pretrained parts to start from."
    )
    strategy: Strategy = Field(
        "whole",
        title="Strategy",
        description="When and how fast the pretrained encoder is trained. whole: all layers from "
        "the start, by the learning-rate schedule. sawtooth: first the decoder and the output "
        "layer only, then all layers; the rate rises and falls each time, which replaces the "
        "schedule. freeze-unfreeze: the encoder is frozen at first, then all layers are trained. "
        "layer-decay: the further a level of the encoder is from the output, the lower its "
        "learning rate. frozen-encoder: the encoder stays frozen, which shows the value of its "
        "features.",
    )
    frozen_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        title="Frozen fraction",
        description="Fraction of the steps in which the encoder is frozen; if not set, 0.1 for "
        "sawtooth and 0.3 for freeze-unfreeze. Not for the other strategies.",
    )
    layer_decay: float = Field(
        LAYER_DECAY,
        gt=0,
        le=1,
        title="Layer decay",
        description="For layer-decay: learning rate of a level of the encoder over that of the "
        "next deeper level, and of the deepest level over that of the decoder.",
    )
    loss: LossKind = Field(
        "dice-ce",
        title="Loss",
        description="dice-ce: Dice over the batch plus cross entropy. dice: Dice over the batch "
        "(Dominic et al. 2023). dice-per-sample: Dice of each slice (PolyCL). dice-multilabel: "
        "Dice of all classes (Umapathy et al. 2022). bce-to-dice: from cross entropy towards Dice "
        "(Dhere & Sivaswamy).",
    )
    reconstruction_weight: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Weight of the reconstruction",
        description="Fraction of the loss for a second branch that restores the image, to keep the "
        "encoder from overfitting (Dhere & Sivaswamy); for the network dense3d only.",
    )
    augmentation: Augmentation = Augmentation()
    foreground_share: float = Field(
        0.33,
        ge=0,
        le=1,
        title="Foreground fraction",
        description="Fraction of each batch drawn from slices that contain a labelled structure.",
    )
    average_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Averaging of weights",
        description="Decay of the exponential moving average of the weights, such as 0.99. The "
        "average is saved; 0 saves the weights of the last step.",
    )
    self_training: SelfTraining | None = Field(
        None,
        title="Unlabelled slices",
        description="Self-training on unlabelled slices with pseudo-labels of the averaged "
        "weights; not used if not set.",
    )
    classes: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        max_length=MOST_CLASSES,
        title="Classes",
        description="Label values of the structures; those in the labels if not set.",
    )

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, classes: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if classes is None:
            return None
        if len(set(classes)) < len(classes) or not all(0 < c < 2**31 for c in classes):
            raise ValueError("classes must be distinct integers above 0 (0 is the background)")
        return tuple(sorted(classes))

    @model_validator(mode="before")
    @classmethod
    def _average_for_teacher(cls, values: Any) -> Any:
        """Self-training needs the average of the weights, its teacher."""
        asked = isinstance(values, Mapping) and values.get("self_training") is not None
        return {"average_decay": AVERAGE_DECAY, **values} if asked else values

    @model_validator(mode="after")
    def _check_teacher(self) -> "FinetuneSettings":
        if self.self_training is not None and not self.average_decay:
            raise ValueError(
                "self_training predicts pseudo-labels with the average of the weights; set "
                "average_decay, such as 0.99"
            )
        return self

    @model_validator(mode="after")
    def _check_strategy(self) -> "FinetuneSettings":
        if self.frozen_share is not None and self.strategy not in FROZEN_SHARES:
            raise ValueError(
                f"the strategy {self.strategy} has no frozen_share; leave it out, or choose "
                "sawtooth or freeze-unfreeze"
            )
        if self.strategy == "sawtooth" and (self.frozen_share or 0) >= 0.5:
            raise ValueError(
                "sawtooth warms up all layers for another frozen_share of the steps; set it below "
                f"0.5, not to {self.frozen_share}"
            )
        if self.layer_decay != LAYER_DECAY and self.strategy != "layer-decay":
            raise ValueError(
                f"the strategy {self.strategy} has no layer_decay; leave it out, or choose "
                "layer-decay"
            )
        return self
