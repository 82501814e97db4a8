"""Predict a scan with a network of volumes: as a whole, or crop by crop."""

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


def predict_volume(
    predict: "Callable[[Tensor], Tensor]",
    volume: Volume,
    settings: VolumePreprocessing,
    device: "torch.device | str",
) -> "Tensor":
    """Class probabilities of every voxel of a scan.

    Scans larger than the crops of the training are predicted crop by crop, with an overlap of one
    half. Overlapping probabilities are averaged with Gaussian weights, highest in the centre of a
    crop.

    Parameters
    ----------
    predict : callable
        From images (N, C, D, H, W) to probabilities (N, K, D, H, W).
    volume : Volume
        The scan.
    settings : VolumePreprocessing
        Preprocessing of the run, with ``size`` resolved.
    device : device or str
        Device of the network.

    Returns
    -------
    Tensor, shape (K, *volume.data.shape), float32
        Probabilities, on the CPU.
    """
    import torch
    from monai.inferers import sliding_window_inference

    with torch.inference_mode():
        crop = settings.size if isinstance(settings.size, tuple) else None
        place = volume_placement(volume.geometry, settings, crop or (1, 1, 1))
        image = torch.from_numpy(prepare_volume(volume, settings, place))[None]
        if crop is None or place.canvas == crop:
            found = predict(image.to(device)).cpu()
        else:
            found = sliding_window_inference(  # type: ignore[assignment]
                image,
                crop,
                sw_batch_size=2,
                predictor=predict,
                overlap=OVERLAP,
                mode="gaussian",
                sw_device=device,
                device="cpu",
            )
        return place.take(found.float())[0]
