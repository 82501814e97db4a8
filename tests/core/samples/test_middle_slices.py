"""Middle slices of scans, in both stages."""

import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.events import Done, Message
from napari_sslseg.core.samples.middle_slices import annotated_middle, middle_mask
from napari_sslseg.core.samples.slices import SliceStore
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.stages import StageSettings

PREPROCESSING = core.Preprocessing()
OPTIONS = {
    "preprocessing": PREPROCESSING,
    "network": core.Network.preset("tiny"),
    "training": core.Training(steps=1, batch_size=2),
}


def scan(n, seed=0):
    data = np.random.default_rng(seed).normal(size=(n, 32, 32)).astype(np.float32)
    affine = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1.0]])
    geometry = Geometry(affine, data.shape)
    name = f"case{seed}"
    return Volume(data, geometry, "MR", name, name)


def labelled(n, seed=0, annotated=None):
    image = scan(n, seed)
    labels = np.zeros(image.data.shape, np.uint8)
    labels[:, 8:20, 8:20] = 1
    return core.LabelledScan(image, Volume(labels, image.geometry), annotated)


def test_the_middle_of_each_scan():
    store = SliceStore.build([scan(20, 1), scan(11, 2)], PREPROCESSING)
    # From ⌈9.5 · 0.7⌉ = 7 to ⌊9.5 · 1.3⌋ − 1 = 11, and from 4 (3.5 rounded up) to 6 − 1.
    assert np.flatnonzero(middle_mask(store, 0.3)).tolist() == [7, 8, 9, 10, 11, 24, 25]
    assert middle_mask(store, 1).all()


def test_annotated_slices_in_the_middle():
    items = [labelled(20, 1, (2, 8, 11, 12)), labelled(20, 2, (0,))]
    store = SliceStore.build(items, PREPROCESSING, classes=(1,))
    assert annotated_middle(store, 0.3).tolist() == [8, 11]
    assert annotated_middle(store, 1).tolist() == [2, 8, 11, 12, 20]


def test_annotated_slices_only_outside_the_middle_are_refused(tmp_path):
    settings = core.FinetuneSettings(middle_share=0.3, **OPTIONS)
    with pytest.raises(core.SslsegError, match="middle 30% of its scan"):
        core.finetune([labelled(20, 1, (0, 1))], out=tmp_path, settings=settings)


def test_pretraining_uses_the_middle(tmp_path):
    settings = core.PretrainSettings(middle_share=0.3, **OPTIONS)
    scans = [scan(20, seed) for seed in range(5)]
    task = core.ContextRestoration(patch_size=8)
    events = list(core.iter_pretrain(scans, task, out=tmp_path, settings=settings))
    assert "25 of 100 slices" in " ".join(e.text for e in events if isinstance(e, Message))
    assert isinstance(events[-1], Done)
    assert events[-1].result.record["slices"] == {"training": 20, "validation": 5}


def test_fine_tuning_uses_the_middle(tmp_path):
    settings = core.FinetuneSettings(middle_share=0.3, **OPTIONS)
    items = {"validation": [labelled(11, 2)]}
    run = core.finetune([labelled(20, 1)], out=tmp_path, settings=settings, **items)
    assert run.record["slices"] == {"training": 5, "validation": 2}


@pytest.mark.parametrize("share", [0, 1.1])
def test_invalid_fractions(share):
    with pytest.raises(ValueError, match="middle_share"):
        StageSettings(middle_share=share)
