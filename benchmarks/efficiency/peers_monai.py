"""The same U-Net on the same slices, trained in the usual loop of MONAI's tutorials.

``CacheDataset``, random dictionary transforms, ``DataLoader``, ``DiceCELoss``, Adam at a constant
rate. Only the network and the slices are ours; there is no pretraining.
"""

from collections.abc import Sequence

import numpy as np
import torch
from monai import transforms as mt
from monai.data import CacheDataset, DataLoader
from monai.losses import DiceCELoss
from monai.utils import set_determinism

from napari_sslseg import core
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.results.predict import Segmenter
from napari_sslseg.core.scans.labelled import LabelledScan


def random_transforms(size: tuple[int, int]) -> list[mt.Transform]:
    """Augmentation similar to that of our fine-tuning."""
    return [
        mt.Rand2DElasticd(
            ["image", "label"],
            spacing=(size[0] / 4, size[1] / 4),
            magnitude_range=(0, 0.06 * min(size)),
            prob=1,
            rotate_range=np.deg2rad(15),
            translate_range=[0.1 * side for side in size],
            scale_range=0.25,
            mode=("bilinear", "nearest"),
            padding_mode="border",
        ),
        mt.RandScaleIntensityd("image", factors=0.2, prob=1),
        mt.RandShiftIntensityd("image", offsets=0.2, prob=1),
        mt.RandGaussianNoised("image", std=0.1, prob=1),
    ]


def fit_monai(
    labelled: Sequence[LabelledScan],
    preprocessing: core.Preprocessing,
    classes: tuple[int, ...],
    *,
    network: core.Network,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    device: str,
) -> Segmenter:
    """Train the network for a number of steps; the last weights are used."""
    set_determinism(seed)
    store = core.SliceStore.build(labelled, preprocessing, classes=classes)
    items = [
        {"image": store.batch(np.array([i]))[0], "label": store.label_batch(np.array([i]))}
        for i in np.flatnonzero(store.annotated)
    ]
    changes = mt.Compose([mt.EnsureTyped(["image", "label"]), *random_transforms(store.size)])
    changes.set_random_state(seed)
    data = CacheDataset(items, changes, progress=False)
    # With few slices, batches are still complete: normalisation and Dice depend on their size.
    drawn = torch.utils.data.RandomSampler(
        data, replacement=len(data) < batch_size, num_samples=max(len(data), batch_size)
    )
    loader = DataLoader(data, batch_size=batch_size, sampler=drawn, drop_last=True)
    model = make_network(network, store.channels, 1 + len(classes)).to(device).train()
    compare = DiceCELoss(to_onehot_y=True, softmax=True, batch=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    done = 0
    while done < steps:
        for batch in loader:
            optimizer.zero_grad()
            scores = model(batch["image"].as_tensor().to(device))
            loss = compare(scores, batch["label"].as_tensor().to(device))
            loss.backward()
            optimizer.step()
            done += 1
            if done == steps:
                break
    return Segmenter(model.eval(), store.settings, classes, device)
