"""A random forest on filtered pixels of the same slices, without any network.

Features and forest are those of scikit-image's example of trainable segmentation: intensity, edges
and texture at several scales; trees of few levels. The slices, and the mapping of the result to the
scan, are the same as in the other arms. The coarsest filters reach the margin of the canvas, so
results are worse for slices that need a larger canvas than the training.
"""

from collections.abc import Sequence

import numpy as np
import torch
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from napari_sslseg import core
from napari_sslseg.core.results.predict import Segmenter
from napari_sslseg.core.scans.labelled import LabelledScan


def features(image: np.ndarray) -> np.ndarray:
    """Features of each pixel, shape (H·W, features), of an image of shape (C, H, W)."""
    found = multiscale_basic_features(np.moveaxis(image, 0, -1), channel_axis=-1)
    return found.reshape(-1, found.shape[-1]).astype(np.float32)


class Forest(nn.Module):
    """A fitted forest in place of a network, with logarithms of its probabilities as scores."""

    def __init__(self, forest: RandomForestClassifier, channels: int) -> None:
        super().__init__()
        self.forest, self.channels = forest, channels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        votes = self.forest.predict_proba(np.concatenate([features(i) for i in images.numpy()]))
        scores = np.full((len(votes), self.channels), 1e-6, np.float32)
        # The forest has no probability of classes without a sampled pixel.
        scores[:, self.forest.classes_] += votes
        scores = scores.reshape(len(images), *images.shape[2:], -1)
        return torch.from_numpy(np.log(np.moveaxis(scores, -1, 1)))


def fit_forest(
    labelled: Sequence[LabelledScan],
    preprocessing: core.Preprocessing,
    classes: tuple[int, ...],
    *,
    trees: int,
    depth: int,
    pixels: int,
    seed: int,
    threads: int,
    class_weight: str | None = None,
) -> Segmenter:
    """Fit a forest to pixels of the annotated slices, ``pixels`` at most, drawn evenly.

    Small structures lose most votes to the background unless ``class_weight`` makes up for that.
    """
    store = core.SliceStore.build(labelled, preprocessing, classes=classes)
    rng = np.random.default_rng(seed)
    slices = np.flatnonzero(store.annotated)
    most = max(1, pixels // len(slices))
    known, targets = [], []
    for index in slices:
        truth = store.label_batch(np.array([index]))[0].numpy().ravel()
        taken = rng.permutation(truth.size)[:most]
        known.append(features(store.batch(np.array([index]))[0].numpy())[taken])
        targets.append(truth[taken])
    forest = RandomForestClassifier(
        n_estimators=trees,
        max_depth=depth,
        class_weight=class_weight,
        n_jobs=threads,
        random_state=seed,
    )
    forest.fit(np.concatenate(known), np.concatenate(targets))
    return Segmenter(Forest(forest, 1 + len(classes)), store.settings, classes, "cpu")
