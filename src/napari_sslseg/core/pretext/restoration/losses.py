"""Losses of the restoration tasks, as functions of output and target."""

import torch
from torch import Tensor

from napari_sslseg.core.common.compute.collectives import all_reduce_mean


def restoration_l2(output: Tensor, target: Tensor) -> Tensor:
    r"""Squared L2 distance of restored and original images, over all their pixels.

    Dominic et al. 2023, *Improving data-efficiency and robustness of medical imaging segmentation
    using inpainting-based self-supervised learning*, equation A1:

    .. math:: \frac{1}{C} \sum_c \frac{1}{N} \sum_n \sum_{h,w} (X_{nchw} - Y_{nchw})^2

    The paper calls it "L2 norm loss", but takes no root. The sum is over all pixels or voxels of
    the image, not only the corrupted ones, and grows with its size.

    Parameters
    ----------
    output, target : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
        Restored and original images, in units of the preprocessed intensities.

    Returns
    -------
    Tensor, scalar
        At least float32, also for half-precision images.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    return _difference(output, target).square().sum(dim=_axes(output)).mean()


def l2_norm(output: Tensor, target: Tensor) -> Tensor:
    """L2 norm of the error of each image and channel, averaged; a metric.

    The "L2 norm" of Table 2 in Dominic et al. 2023: the root of the squared error summed over the
    pixels of one slice (here also the voxels of one volume) and channel, then the mean over
    slices and channels.

    Parameters
    ----------
    output, target : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
        Restored and original images, in units of the preprocessed intensities.

    Returns
    -------
    Tensor, scalar
        At least float32, also for half-precision images.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    return _difference(output, target).square().sum(dim=_axes(output)).sqrt().mean()


def restoration_mse(output: Tensor, target: Tensor) -> Tensor:
    """Squared error of restored and original images, averaged over everything.

    Zhou et al. 2019, *Models Genesis: generic autodidactic models for 3D medical image analysis*,
    which compares whole images.

    Parameters
    ----------
    output, target : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
        Restored and original images, in units of the preprocessed intensities.

    Returns
    -------
    Tensor, scalar
        At least float32, also for half-precision images.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    return _difference(output, target).square().mean()


def masked_l1(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    r"""Mean absolute error of the masked pixels.

    Umapathy et al. 2022, *Learning to segment with limited annotations: self-supervised
    pretraining with regression and contrastive loss in MRI*, the loss of the regression:

    .. math:: \lVert M \odot \Psi_\theta(\tilde x) - M \odot x \rVert_1

    The paper sums; divided by the number of masked values |M| the loss, and with it the learning
    rate, does not depend on the size of the images.

    Parameters
    ----------
    output, target : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
        Restored and original images, in units of the preprocessed intensities.
    mask : Tensor of bool, shape (N, 1, H, W) or (N, 1, D, H, W)
        Pixels to compare, in every channel; at least one.

    Returns
    -------
    Tensor, scalar
        At least float32, also for half-precision images. Its gradient is exactly 0 elsewhere.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    return _masked_mean(_difference(output, target).abs(), mask)


def masked_l2(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    r"""Mean squared error of the masked pixels.

    He et al. 2022, *Masked autoencoders are scalable vision learners*, section 3:

    .. math:: \frac{1}{|M|} \sum M \odot (\Psi_\theta(\tilde x) - x)^2

    Parameters
    ----------
    output, target : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
        Restored and original images, in units of the preprocessed intensities.
    mask : Tensor of bool, shape (N, 1, H, W) or (N, 1, D, H, W)
        Pixels to compare, in every channel; at least one.

    Returns
    -------
    Tensor, scalar
        At least float32, also for half-precision images. Its gradient is exactly 0 elsewhere.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    return _masked_mean(_difference(output, target).square(), mask)


def _axes(images: Tensor) -> tuple[int, ...]:
    """Spatial axes of a batch."""
    return tuple(range(2, images.ndim))


def _masked_mean(errors: Tensor, mask: Tensor) -> Tensor:
    """Mean over the masked pixels of all channels."""
    if mask.shape != (len(errors), 1, *errors.shape[2:]):
        raise ValueError(f"a mask of shape {mask.shape} does not fit images of {errors.shape}")
    # Selection instead of multiplication, so that values elsewhere may be infinite or NaN.
    kept = errors.where(mask, 0)
    return kept.sum() / (all_reduce_mean(mask.sum()) * errors.shape[1])


def _difference(output: Tensor, target: Tensor) -> Tensor:
    """Difference in at least float32, because sums over images overflow in half precision."""
    if output.ndim not in (4, 5) or output.shape != target.shape:
        raise ValueError(
            "images must have one shape (N, C, H, W) or (N, C, D, H, W), not "
            f"{output.shape} and {target.shape}"
        )
    kind = torch.promote_types(torch.promote_types(output.dtype, target.dtype), torch.float32)
    return output.to(kind) - target.to(kind)
