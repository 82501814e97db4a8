"""What a network of volumes says about a scan: as a whole, or crop by crop."""

from typing import TYPE_CHECKING

from napari_sslseg.core.samples.placement import volume_placement
from napari_sslseg.core.samples.preprocess import prepare_volume
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.preprocessing import VolumePreprocessing

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

OVERLAP = 0.5


def volume_shares(
    shares: "Callable[[Tensor], Tensor]",
    volume: Volume,
    settings: VolumePreprocessing,
    device: "torch.device | str",
) -> "Tensor":
    """Class probabilities of every voxel of a scan.

    Scans larger than the crops of the training are seen crop by crop, overlapping by half; where
    crops overlap, what they say is averaged with Gaussian weights, most for their middles.

    Parameters
    ----------
    shares : callable
        From images (N, C, D, H, W) to probabilities (N, K, D, H, W).
    volume : Volume
        The scan.
    settings : VolumePreprocessing
        With ``size`` resolved, as a run records it.
    device : device or str
        Where to predict.

    Returns
    -------
    Tensor, shape (K, *volume.data.shape), float32
        On the CPU.
    """
    import torch
    from monai.inferers import sliding_window_inference

    with torch.inference_mode():
        crop = settings.size if isinstance(settings.size, tuple) else None
        place = volume_placement(volume.geometry, settings, crop or (1, 1, 1))
        image = torch.from_numpy(prepare_volume(volume, settings, place))[None]
        if crop is None or place.canvas == crop:
            found = shares(image.to(device)).cpu()
        else:
            found = sliding_window_inference(  # type: ignore[assignment]
                image,
                crop,
                sw_batch_size=2,
                predictor=shares,
                overlap=OVERLAP,
                mode="gaussian",
                sw_device=device,
                device="cpu",
            )
        return place.take(found.float())[0]
