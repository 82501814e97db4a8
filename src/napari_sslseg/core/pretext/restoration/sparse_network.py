"""Sparse encoder of masked modelling: ordinary layers that use visible pixels only.

After Tian et al. 2023, *Designing BERT for convolutional networks: sparse and hierarchical masked
modeling* (SparK). Hidden pixels are 0 before the encoder sees them, the output of every
convolution and normalisation is set to 0 at hidden places again, and normalisations take their
statistics from visible places only. So no values spread into or out of hidden places at any level,
and the layers and weights are those of the plain encoder.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.networks.parts import EncoderDecoder, repeat_to_fit

TOKEN_DEVIATION = 0.02
"""Standard deviation of the initial tokens, as in SparK."""

TINY = 1e-12

InstanceNorm = nn.InstanceNorm2d | nn.InstanceNorm3d
BatchNorm = nn.BatchNorm2d | nn.BatchNorm3d
Convolution = nn.Conv2d | nn.Conv3d
Norm = nn.GroupNorm | InstanceNorm | BatchNorm


class SparseNetwork(nn.Module):
    """A network of slices or volumes whose encoder sees visible pixels only.

    Hidden places of the encoder's features become a learned token, one for each level, before the
    decoder takes them. The parts keep their names, so that they are transferred like any others.

    Parameters
    ----------
    network : EncoderDecoder
        Its parts are used, not copied.

    Raises
    ------
    ConfigError
        If it has normalisations without a sparse version.
    """

    compilable = False
    """False, because its layers are replaced in every step."""

    def __init__(self, network: EncoderDecoder) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.decoder = network.decoder
        self.output = network.output
        self.stride = network.stride
        axes = next(m.weight.ndim for m in _layers(self.encoder) if isinstance(m, Convolution)) - 2
        self.mask_tokens = nn.ParameterList(
            nn.init.trunc_normal_(torch.empty(1, channels, *[1] * axes), std=TOKEN_DEVIATION)
            for channels in network.encoder.channels
        )
        for module in _layers(self.encoder):
            if _is_norm(module) and (not isinstance(module, Norm) or _keeps_averages(module)):
                raise ConfigError(
                    f"The normalisation {type(module).__name__} of this network cannot exclude "
                    "hidden pixels; choose another network or pretext task."
                )

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        """Scores, shape (N, out_channels, …), from the visible pixels only.

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
            Hidden pixels may have any value.
        visible : Tensor of bool, shape (N, 1, H, W) or (N, 1, D, H, W)
            Whole blocks of the network's stride are visible or hidden.
        """
        sides = tuple(slice(side) for side in images.shape[2:])
        features = [
            torch.where(_at_size(shown, level), level, token.to(level.dtype))
            for (level, shown), token in zip(
                self.encode(images, visible), self.mask_tokens, strict=True
            )
        ]
        return self.output(self.decoder(features))[(..., *sides)]

    def encode(self, images: Tensor, visible: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Features of each level, 0 at hidden places, and the mask of the fitted images."""
        fitted = repeat_to_fit(images.masked_fill(~visible, 0), self.stride)
        shown = repeat_to_fit(visible.to(images.dtype), self.stride).bool()
        with sparse(self.encoder, shown):
            return [(level, shown) for level in self.encoder(fitted)]


@contextmanager
def sparse(encoder: Callable[[Tensor], list[Tensor]], visible: Tensor) -> Iterator[None]:
    """Make an encoder exclude hidden places within this context.

    Max-pooling needs no change: its windows lie within blocks that are all visible or all 0.

    Parameters
    ----------
    encoder : Module
        Its convolutions and normalisations become sparse; its weights are not changed.
    visible : Tensor of bool, shape (N, 1, H, W) or (N, 1, D, H, W)
        Of the size of the images; constant over each block of the encoder's stride.
    """

    @cache
    def shown(side: int, dtype: torch.dtype) -> Tensor:
        return _every(visible, visible.shape[2] // side).to(dtype).contiguous()

    def hide(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # In place, because a convolution does not need its output in the backward pass.
        return output.mul_(shown(output.shape[2], output.dtype))

    def normalise(norm: Norm, features: Tensor) -> Tensor:
        return _normalise(norm, shown(features.shape[2], torch.float32), features)

    layers = _layers(encoder)
    hooks = [m.register_forward_hook(hide) for m in layers if isinstance(m, Convolution)]
    norms = [module for module in layers if isinstance(module, Norm)]
    for norm in norms:
        norm.forward = partial(normalise, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for norm in norms:
            del norm.forward  # restores the method of the class


def _layers(encoder: object) -> list[nn.Module]:
    assert isinstance(encoder, nn.Module)
    return list(encoder.modules())


def _is_norm(module: nn.Module) -> bool:
    # Modules with children are not layers.
    return "Norm" in type(module).__name__ and not any(module.children())


def _keeps_averages(module: nn.Module) -> bool:
    return isinstance(module, InstanceNorm) and module.track_running_stats


def _at_size(visible: Tensor, features: Tensor) -> Tensor:
    """Return the mask at the resolution of features."""
    return _every(visible, visible.shape[2] // features.shape[2])


def _every(visible: Tensor, step: int) -> Tensor:
    """Return one place of each block of ``step`` along every axis; all axes have the same step."""
    steps = (1, 1, *[step] * (visible.ndim - 2))
    return visible[tuple(slice(None, None, step) for step in steps)]


def _per_channel(values: Tensor, features: Tensor) -> Tensor:
    """Reshape values of channels, shape (…, C), to broadcast with features (N, C, …)."""
    return values.view(*values.shape, *[1] * (features.ndim - 2))


def _normalise(norm: Norm, shown: Tensor, features: Tensor) -> Tensor:
    """Normalise visible places by their own mean and variance; hidden places stay 0.

    Hidden places are 0 already, because the convolution before is sparse and activations keep 0.
    Statistics of the visible places therefore follow from those of all places, in one pass.
    """
    values = features.float()
    if isinstance(norm, BatchNorm):
        mean, variance = _batch_statistics(norm, values, shown)
        scale = (variance + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * _per_channel(norm.weight, values)
        shift = -mean * scale
        if norm.bias is not None:
            shift = shift + _per_channel(norm.bias, values)
        return torch.addcmul(shift * shown, values, scale).to(features.dtype)
    groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else values.shape[1]
    weight = values.new_ones(values.shape[1]) if norm.weight is None else norm.weight
    bias = torch.zeros_like(weight) if norm.bias is None else norm.bias
    found = GroupNormOfVisible.apply(values, shown, weight, bias, groups, norm.eps)
    return found.to(features.dtype)


class GroupNormOfVisible(torch.autograd.Function):
    """GroupNorm over visible places, with an explicit gradient.

    The gradient of autograd through the single operations takes too much time and memory compared
    to the convolutions.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        shown: Tensor,
        weight: Tensor,
        bias: Tensor,
        groups: int,
        eps: float,
    ) -> Tensor:
        """Normalise values (N, C, …), 0 where ``shown`` (N, 1, …) is; 0 stays there."""
        n, channels = values.shape[:2]
        flat = values.flatten(2).contiguous()
        share = shown.flatten(1).mean(dim=1)[:, None, None]
        # The plain layer computes mean and variance seven times as fast as var_mean.
        sizes = (n, channels, flat.shape[2], groups)
        _, mean, rstd = torch.native_group_norm(flat, None, None, *sizes, TINY)
        moments = _of_visible(mean[..., None], rstd[..., None] ** -2 - TINY, share)
        means, spreads = (
            m.expand(-1, -1, channels // groups).reshape(n, channels, 1)
            for m in (moments[0], (moments[1] + eps).rsqrt())
        )
        scale = spreads * weight[:, None]
        out = torch.empty(values.shape, dtype=values.dtype, device=values.device)
        # Not a view, because an activation may change the result in place.
        filled = out.flatten(2)
        torch.addcmul(bias[:, None] - means * scale, flat, scale, out=filled)
        filled.mul_(shown.flatten(2))
        ctx.save_for_backward(flat, shown, weight, means, spreads, share)
        ctx.groups = groups
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of values, weight and bias."""
        flat, shown, weight, means, spreads, share = ctx.saved_tensors
        n, channels = flat.shape[:2]
        mask = shown.flatten(2)
        given = gradient.flatten(2) * mask
        sums = given.sum(2, keepdim=True)
        products = torch.linalg.vecdot(given, flat)[..., None]
        products = (products - means * sums) * spreads
        count = share * (flat.shape[2] * channels // ctx.groups)

        def grouped(sums: Tensor) -> Tensor:
            total = (sums * weight[:, None]).view(n, ctx.groups, -1).sum(2, keepdim=True) / count
            return total.expand(-1, -1, channels // ctx.groups).reshape(n, channels, 1)

        along = -spreads.square() * grouped(products)
        constant = -spreads * grouped(sums) - means * along
        out = torch.addcmul(constant, flat, along)
        out.addcmul_(given, spreads * weight[:, None]).mul_(mask)
        return out.view_as(gradient), None, products.sum((0, 2)), sums.sum((0, 2)), None, None


def _batch_statistics(norm: BatchNorm, values: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Return the moments of the batch and update their averages in training; else the averages."""
    running = norm.running_mean, norm.running_var
    if not norm.training and running[0] is not None and running[1] is not None:
        return _per_channel(running[0], values), _per_channel(running[1], values)
    mean, variance = _moments(values, (0, *range(2, values.ndim)), shown.mean())
    if norm.training and running[0] is not None and running[1] is not None:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked += 1
        weight = norm.momentum if norm.momentum is not None else 1 / norm.num_batches_tracked
        count = shown.sum()
        with torch.no_grad():
            running[0].lerp_(mean.flatten(), float(weight))
            # The running variance is the unbiased one, as in the plain layer.
            running[1].lerp_(variance.flatten() * count / (count - 1), float(weight))
    return mean, variance


def _moments(values: Tensor, dims: tuple[int, ...], share: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance over the visible fraction of some dimensions, which are kept."""
    variance, mean = torch.var_mean(values, dims, correction=0, keepdim=True)
    return _of_visible(mean, variance, share)


def _of_visible(mean: Tensor, variance: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return the moments of the visible places from those of all places; hidden ones are 0."""
    shown_mean = mean / share
    # Remove the part of the variance that comes from the zeros of hidden places.
    return shown_mean, (variance / share - shown_mean.square() * (1 - share)).clamp(min=0)
