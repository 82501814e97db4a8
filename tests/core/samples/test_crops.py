import numpy as np
import pytest
import torch

from napari_sslseg import core
from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.events import Progress
from napari_sslseg.core.samples.crops import CropStore, iter_crops
from napari_sslseg.core.samples.placement import resample, volume_placement
from napari_sslseg.core.samples.preprocess import prepare_volume
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.preprocessing import CT_WINDOWS, VolumePreprocessing


def scan(data, name="a", spacing=(1.0, 1.0, 1.0), modality="MR"):
    """A scan whose display grid is ``data``; axes towards inferior, posterior, left."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = -spacing[0], -spacing[1], -spacing[2]
    affine[3, 3] = 1
    return Volume(np.asarray(data, np.float32), Geometry(affine, data.shape), modality, name)


def build(scans, settings, **options) -> CropStore:
    steps = iter_crops(scans, settings, **options)
    while True:
        try:
            assert isinstance(next(steps), Progress)
        except StopIteration as end:
            return end.value


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_small_scan_is_one_centred_crop():
    data = noise((20, 30, 40))
    store = build([scan(data)], VolumePreprocessing(normalize="unit"))
    assert (len(store), store.size, store.channels) == (1, (32, 32, 48), 1)
    image = store.batch(np.array([0]))[0, 0].numpy()
    low, high = np.percentile(data, (0.5, 99.5))
    expected = (np.clip(data, low, high) - low) / (high - low)
    np.testing.assert_allclose(image[6:26, 1:31, 4:44], expected, atol=1e-6)
    image[6:26, 1:31, 4:44] = 0
    assert not image.any()


def test_crops_cover_every_voxel_of_a_large_scan_and_overlap_by_half():
    settings = VolumePreprocessing(size=(32, 32, 32), normalize="unit", clip_percentiles=(0, 100))
    data = np.arange(64 * 40 * 32, dtype=np.float32).reshape(64, 40, 32)
    store = build([scan(data), scan(data[:32], "b")], settings)
    # 64 → starts 0, 16, 32; 40 on a canvas of 48 → starts 0, 16; 32 → 0.
    assert [record.n_slices for record in store.scans] == [6, 2]
    assert store.scan_index.tolist() == [0] * 6 + [1] * 2
    crops = store.batch(np.arange(6))
    seen = (crops * (data.size - 1)).round().to(torch.int64).unique()
    assert len(seen) == data.size
    # Half of the second crop along the slices is half of the first one.
    np.testing.assert_array_equal(crops[0, 0, 16:], crops[2, 0, :16])


def test_default_crops_have_at_most_96_voxels_per_side():
    data = noise((100, 20, 120))
    assert build([scan(data)], VolumePreprocessing()).size == (96, 32, 96)
    store = build([scan(data)], VolumePreprocessing(size="whole"))
    assert store.size == (112, 32, 128)
    assert store.settings.size == "whole"


def test_labels_match_the_voxels_of_the_images():
    data = noise((24, 40, 40))
    labels = (data > 1) * 7
    store = build(
        [LabelledScan(scan(data), scan(labels)), scan(data, "unlabelled")],
        VolumePreprocessing(spacing=(2.0, 1.0, 1.0), size="whole"),
        classes=(7,),
    )
    assert store.annotated.tolist() == [True, False]
    assert store.foreground.tolist() == [True, False]
    found = store.label_batch(np.array([0]))[0]
    place = volume_placement(scan(data).geometry, store.settings)
    assert place.resampled == (12, 40, 40)
    assert place.canvas == (16, 48, 48)
    expected = torch.from_numpy(labels[1::2] / 7)
    assert torch.equal(found[2:14, 4:44, 4:44].double(), expected.double())
    with pytest.raises(DataError, match="not annotated"):
        store.label_batch(np.array([1]))


def test_a_partly_annotated_scan_is_refused():
    data = noise((16, 16, 16))
    item = LabelledScan(scan(data), scan((data > 0) * 1), annotated=(3,))
    with pytest.raises(DataError, match=r"annotated.*network of slices"):
        build([item], VolumePreprocessing(), classes=(1,))


def test_a_store_on_disk_gives_the_same_crops_and_is_reused(tmp_path):
    scans = [scan(noise((40, 40, 40), seed), str(seed)) for seed in range(2)]
    settings = VolumePreprocessing(size=(32, 32, 32))
    memory = build(scans, settings)
    disk = build(scans, settings, storage="disk", cache=tmp_path)
    everything = np.arange(len(memory))
    assert torch.equal(memory.batch(everything), disk.batch(everything))
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    again = build(scans, settings, storage="disk", cache=tmp_path)
    assert torch.equal(again.batch(everything), memory.batch(everything))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == written
    (disk.folder / "image-00001.npy").write_bytes(b"damaged")
    mended = build(scans, settings, storage="disk", cache=tmp_path)
    assert torch.equal(mended.batch(everything), memory.batch(everything))


def test_volumes_are_resampled_to_the_spacing_and_back():
    """A field that is linear in mm keeps its values when resampled in both directions."""
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in (30, 40, 50)), indexing="ij")
    source = scan(z * 3 + y * 1 + x * 2, spacing=(3.0, 1.0, 2.0))
    settings = VolumePreprocessing(spacing=(6.0, 2.0, 1.0), size="whole")
    place = volume_placement(source.geometry, settings)
    assert place.resampled == (15, 20, 100)
    image = torch.from_numpy(source.data)[None, None]
    put = place.put(image)
    back = place.take(put)[0, 0]
    inner = (slice(4, -4),) * 3
    np.testing.assert_allclose(back[inner], source.data[inner], atol=0.05)


def test_resampling_a_volume_is_resampling_along_each_axis():
    """Average over 2 × 2 × 2 blocks in which the field is constant."""
    coarse = torch.rand(1, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    fine = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3).repeat_interleave(4, 4)
    down = resample(fine, (4, 5, 6))
    # A triangle filter reaches one block further, so only the mean is kept exactly.
    assert abs(float(down.mean() - coarse.mean())) < 0.02
    assert resample(torch.full((1, 1, 9, 9, 9), 3.0), (4, 7, 20)).sub(3).abs().max() < 1e-5


def test_ct_windows_are_channels_and_padding_is_air_or_zero():
    data = np.linspace(-1000, 1000, 20 * 16 * 16, dtype=np.float32).reshape(20, 16, 16)
    ct = scan(data, modality="CT")
    settings = VolumePreprocessing(modality="CT", windows=CT_WINDOWS["kidney"], size="whole")
    place = volume_placement(ct.geometry, settings)
    image = prepare_volume(ct, settings, place)
    inside = image[0, 6:26]
    assert image.shape == (1, 32, 16, 16)
    assert abs(float(inside.mean())) < 1e-5
    assert abs(float(inside.std()) - 1) < 1e-4
    assert np.all(image[0, :6] == inside.min())
    zero = prepare_volume(ct, settings.model_copy(update={"padding": "zero"}), place)
    assert not zero[0, :6].any()


def test_subjects_and_stop():
    store = build([scan(noise((16, 16, 16), i), f"p{i}") for i in range(3)], VolumePreprocessing())
    assert store.indices([store.subjects[1]]).tolist() == [1]
    stop = core.StopFlag()
    stop.set()
    assert build([scan(noise((16, 16, 16)))], VolumePreprocessing(), stop=stop) is None
