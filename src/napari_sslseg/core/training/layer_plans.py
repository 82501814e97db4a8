"""Fine-tuning strategies: which layers are trained when, and with which learning rate.

Within some hundred steps a few labelled slices can undo the pretraining of an encoder on many
scans: at first the decoder is random, and its gradients carry little information. The strategies
protect the encoder:

- ``whole``: no protection; all layers are trained with the schedule of the training.
- ``sawtooth``: decoder and output are trained first, while the learning rate rises and falls once;
  then all layers, while it rises and falls again (the fine-tuning of S3D: Wald et al., CVPR 2025,
  and of OpenMind: Wald et al., ICCV 2025).
- ``freeze-unfreeze``: the encoder is frozen at first; the schedule does not change (one of the
  variants of Dominic et al. 2023, who chose ``whole`` in the end).
- ``layer-decay``: the learning rate falls with the distance d from the output, as decay^d (Clark et
  al. 2020, ELECTRA; Bao et al. 2022, BEiT). There each layer has its own rate. Here each level of
  the encoder has its own rate, and decoder and output have the full one, since they are usually not
  pretrained. The deepest level has d = 1.
- ``frozen-encoder``: the encoder is frozen throughout, which measures the quality of its features.

A frozen encoder has no gradients, so that neither momentum nor weight decay changes its weights,
and is in evaluation mode, so that running averages do not change. The state of the optimiser is
kept when a freeze ends.

Loads no PyTorch.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import Message
from napari_sslseg.core.settings.stages import FROZEN_SHARES, LAYER_DECAY, FinetuneSettings
from napari_sslseg.core.settings.training import Training

if TYPE_CHECKING:
    from torch import nn

    from napari_sslseg.core.networks.base import EncoderPart

POWER = 0.9


@dataclass(frozen=True, eq=False)
class LayerPlan:
    """Which layers of a network are trained when, and with which learning rate.

    Parameters
    ----------
    encoder : EncoderPart
        Encoder of the network that is trained.
    frozen_steps : int
        Number of first steps in which the encoder is frozen.
    decay : float
        Ratio of the learning rates of one level of the encoder and the next deeper one.
    factor : callable, optional
        Factor on the learning rate by step (from 0), which replaces the schedule.
    """

    encoder: "EncoderPart"
    frozen_steps: int = 0
    decay: float = 1.0
    factor: Callable[[int], float] | None = None

    def begin(self, step: int) -> bool:
        """Freeze or unfreeze the encoder for a step (from 0); returns whether that changed it."""
        frozen = step < self.frozen_steps
        if frozen == self.encoder.frozen:
            return False
        self.encoder.freeze(frozen)
        return True

    def groups(self, model: "nn.Module", learning_rate: float) -> list[dict[str, Any]]:
        """Parameter groups for an optimiser.

        Decoder and output are the first group, which has the largest learning rate; then come the
        levels of the encoder, deepest first. Without a decay there is one group in the order of
        the model: optimisers skip frozen parameters, which have no gradient.
        """
        if self.decay == 1:
            return [{"params": list(model.parameters()), "lr": learning_rate}]
        levels = [
            [parameter for module in level for parameter in module.parameters()]
            for level in reversed(self.encoder.modules_by_level())
        ]
        encoder = {id(parameter) for level in levels for parameter in level}
        others = [parameter for parameter in model.parameters() if id(parameter) not in encoder]
        return [
            {"params": parameters, "lr": learning_rate * self.decay**distance}
            for distance, parameters in enumerate([others, *levels])
        ]


def warmup_poly(step: int, warmup: int, steps: int) -> float:
    """Factor that rises linearly for ``warmup`` steps, then falls as (1 − progress)^0.9.

    It is above 0 in the first step (0) and in the last one.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (1 - (step - warmup) / max(1, steps - warmup)) ** POWER


def sawtooth(step: int, tooth: int, steps: int) -> float:
    """Factor on the learning rate of a sawtooth.

    Parameters
    ----------
    step : int
        From 0.
    tooth : int
        Length of the first tooth: the factor rises in its first half and falls in its second. In
        the second tooth it rises for ``tooth`` steps, then falls until the end.
    steps : int
        Number of steps in all.
    """
    if step < tooth:
        return warmup_poly(step, tooth // 2, tooth)
    return warmup_poly(step - tooth, tooth, steps - tooth)


def resolve_strategy(
    settings: FinetuneSettings, pretrained: bool
) -> Generator[Message, None, FinetuneSettings]:
    """Adapt the strategy to the start, and the schedule to the strategy.

    From scratch the strategy becomes ``whole``. The sawtooth replaces the schedule.

    Yields
    ------
    Message
        What was changed.

    Raises
    ------
    ConfigError
        If the encoder is random and would stay frozen.
    """
    strategy = settings.strategy
    if strategy == "whole":
        return settings
    if not pretrained:
        if strategy == "frozen-encoder":
            raise ConfigError(
                "From scratch, a frozen encoder would stay random; start from a pretraining run, "
                "or choose another strategy than frozen-encoder."
            )
        yield Message(
            f"The strategy {strategy} has no use without a pretrained encoder, so all layers are "
            "trained from the beginning."
        )
        whole = {"strategy": "whole", "frozen_share": None, "layer_decay": LAYER_DECAY}
        return settings.model_copy(update=whole)
    training, defaults = settings.training, Training()
    replaced = {name: getattr(defaults, name) for name in ("schedule", "warmup")}
    if strategy == "sawtooth" and any(getattr(training, n) != v for n, v in replaced.items()):
        yield Message(
            f"The strategy sawtooth sets the learning rate itself, so the schedule "
            f"{training.schedule} and its warm-up are not used."
        )
        settings = settings.model_copy(update={"training": training.model_copy(update=replaced)})
    return settings


def make_layer_plan(
    settings: FinetuneSettings, model: Any, source: Mapping[str, Any]
) -> Generator[Message, None, LayerPlan | None]:
    """Make the plan of a strategy; None if all layers follow the schedule.

    Parameters
    ----------
    settings : FinetuneSettings
        Settings with the length in steps.
    model : SegmentationNetwork
        Network with the pretrained weights.
    source : mapping
        Report on the copied tensors, see :func:`~napari_sslseg.core.stages.init_from.load_start`.

    Yields
    ------
    Message
        How long the encoder is frozen, and whether some of it is not pretrained.
    """
    encoder, steps, strategy = model.encoder, settings.training.steps, settings.strategy
    if strategy == "whole":
        return None
    if strategy == "layer-decay":
        return LayerPlan(encoder, decay=settings.layer_decay)
    share = settings.frozen_share or FROZEN_SHARES.get(strategy, 1.0)
    frozen = max(1, round(share * steps))
    until = "throughout" if frozen == steps else f"for the first {frozen} of {steps} steps"
    yield Message(f"The encoder is frozen {until}.")
    own = [name for name in model.state_dict() if name.startswith("encoder.")]
    # A resumed run takes its weights from its state, and this was reported at its beginning.
    copied = set(source["transfer"]["copied"] if "transfer" in source else own)
    missing = [name for name in own if name not in copied]
    if missing:
        yield Message(
            f"{len(missing)} of the {len(own)} tensors of the encoder, such as {missing[0]}, are "
            "not pretrained but random, and stay so while they are frozen."
        )
    if strategy == "sawtooth":
        return LayerPlan(encoder, frozen, factor=lambda step: sawtooth(step, frozen, steps))
    return LayerPlan(encoder, frozen)
