"""Ways to fine-tune a pretrained network gently: which layers learn when, and how fast.

A few labelled slices can undo in some hundred steps what an encoder learnt from many scans: at
first the decoder is random, and its gradients say little. The strategies hold the encoder back:

- ``whole``: they do not; all layers learn at once, by the schedule of the training.
- ``sawtooth``: decoder and output first, with a rise and a fall of the learning rate of their own,
  then all layers, with another (the fine-tuning of S3D: Wald et al., CVPR 2025, and of OpenMind:
  Wald et al., ICCV 2025).
- ``freeze-unfreeze``: the encoder waits; the schedule goes on as if nothing had happened (one of
  the variants of Dominic et al. 2023, who chose ``whole`` in the end).
- ``layer-decay``: the rate falls with the distance from the output, d, as decay^d (Clark et al.
  2020, ELECTRA; Bao et al. 2022, BEiT). There each layer has a rate of its own; here each level of
  the encoder has, and decoder and output have the full one, since usually nothing of them is
  pretrained. The deepest level has d = 1.
- ``frozen-encoder``: the encoder never learns, which measures its features.

Frozen means: no gradients, so that neither momentum nor weight decay moves a weight, and in
evaluation mode, so that running averages stay. The optimiser goes on over the end of a freeze.

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
    """Which layers of a network learn when, and how fast.

    Parameters
    ----------
    encoder : EncoderPart
        Of the network that is trained.
    frozen_steps : int
        First steps, in which the encoder is frozen.
    decay : float
        Factor on the learning rate from each level of the encoder to the next shallower one.
    factor : callable, optional
        Factor on the learning rate by step (from 0), in place of the schedule.
    """

    encoder: "EncoderPart"
    frozen_steps: int = 0
    decay: float = 1.0
    factor: Callable[[int], float] | None = None

    def begin(self, step: int) -> bool:
        """Freeze or free the encoder for a step (from 0); whether that is a change."""
        frozen = step < self.frozen_steps
        if frozen == self.encoder.frozen:
            return False
        self.encoder.freeze(frozen)
        return True

    def groups(self, model: "nn.Module", learning_rate: float) -> list[dict[str, Any]]:
        """Parameters by learning rate, for an optimiser.

        Decoder and output come first, so that the rate of the first group is the largest; then
        the levels of the encoder, deepest first. Without a decay all are one group, in the order
        of the model: what is frozen has no gradient, which every optimiser passes over.
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
    """Rise linearly over the first ``warmup`` of ``steps`` steps, then fall as (1 − progress)^0.9.

    It is above 0 in the first step (0), and in the last one.
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
        Steps of the first tooth: one half rises, the other falls. The second rises over as many
        steps, and then falls to the end.
    steps : int
        In all.
    """
    if step < tooth:
        return warmup_poly(step, tooth // 2, tooth)
    return warmup_poly(step - tooth, tooth, steps - tooth)


def resolve_strategy(
    settings: FinetuneSettings, pretrained: bool
) -> Generator[Message, None, FinetuneSettings]:
    """Settings whose strategy makes sense for this start, and whose schedule is the one used.

    Yields
    ------
    Message
        What was changed.

    Raises
    ------
    ConfigError
        If the encoder were never to learn, neither before nor now.
    """
    strategy = settings.strategy
    if strategy == "whole":
        return settings
    if not pretrained:
        if strategy == "frozen-encoder":
            raise ConfigError(
                "From scratch an encoder that is frozen would stay random; start from a "
                "pretraining, or choose another strategy than frozen-encoder."
            )
        yield Message(
            f"From scratch there is nothing for the strategy {strategy} to spare, so all layers "
            "learn at once."
        )
        whole = {"strategy": "whole", "frozen_share": None, "layer_decay": LAYER_DECAY}
        return settings.model_copy(update=whole)
    training, usual = settings.training, Training()
    replaced = {name: getattr(usual, name) for name in ("schedule", "warmup")}
    if strategy == "sawtooth" and any(getattr(training, n) != v for n, v in replaced.items()):
        yield Message(
            f"The strategy sawtooth sets the learning rate by itself, so the schedule "
            f"{training.schedule} of the settings and its warm-up are not used."
        )
        settings = settings.model_copy(update={"training": training.model_copy(update=replaced)})
    return settings


def make_layer_plan(
    settings: FinetuneSettings, model: Any, source: Mapping[str, Any]
) -> Generator[Message, None, LayerPlan | None]:
    """Make the plan of a strategy, None if all layers learn at once.

    Parameters
    ----------
    settings : FinetuneSettings
        With the length of the training in steps.
    model : SegmentationNetwork
        With the pretrained weights in it.
    source : mapping
        What became of every tensor, see :func:`~napari_sslseg.core.stages.init_from.load_start`.

    Yields
    ------
    Message
        How long the encoder is frozen, and if some of it is random all the same.
    """
    encoder, steps, strategy = model.encoder, settings.training.steps, settings.strategy
    if strategy == "whole":
        return None
    if strategy == "layer-decay":
        return LayerPlan(encoder, decay=settings.layer_decay)
    share = settings.frozen_share or FROZEN_SHARES.get(strategy, 1.0)
    frozen = max(1, round(share * steps))
    until = "throughout" if frozen == steps else f"for the first {frozen} of {steps} steps"
    yield Message(f"The encoder stays as it is {until}.")
    own = [name for name in model.state_dict() if name.startswith("encoder.")]
    # A run that goes on has its weights from its state, and was told at its beginning.
    copied = set(source["transfer"]["copied"] if "transfer" in source else own)
    missing = [name for name in own if name not in copied]
    if missing:
        yield Message(
            f"{len(missing)} of the {len(own)} tensors of the encoder, such as {missing[0]}, are "
            "not pretrained, but random; freezing them keeps them so."
        )
    if strategy == "sawtooth":
        return LayerPlan(encoder, frozen, factor=lambda step: sawtooth(step, frozen, steps))
    return LayerPlan(encoder, frozen)
