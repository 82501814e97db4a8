import numpy as np
import pytest
import torch

from napari_sslseg.core.common.errors import ConfigError, DataError
from napari_sslseg.core.common.settings_base import make_settings
from napari_sslseg.core.samples.build import default_preprocessing
from napari_sslseg.core.samples.normalize import Normalizer
from napari_sslseg.core.samples.placement import Placement, canvas_size, placement, resample
from napari_sslseg.core.samples.preprocess import prepare, prepare_labels
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.preprocessing import CT_WINDOWS, Preprocessing, Window
from napari_sslseg.core.settings.stages import FinetuneSettings


def scan(data, spacing=(1.0, 1.0, 1.0), modality="MR"):
    """A scan whose display grid is ``data``; spacing along inferior, posterior, left."""
    affine = np.zeros((4, 4))
    # Source axes are chosen as inferior, posterior, left: display and source are the same.
    affine[2, 0], affine[1, 1], affine[0, 2] = -spacing[0], -spacing[1], -spacing[2]
    affine[3, 3] = 1
    return Volume(data, Geometry(affine, data.shape), modality, "a", "a")


def noise(shape=(6, 30, 40), seed=0):
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def test_mr_is_clipped_to_percentiles_and_then_standardised():
    data = noise()
    data[0, 0, 0] = 1e6
    slices = Normalizer(scan(data), Preprocessing()).slices()
    assert slices.shape == (6, 1, 30, 40)
    assert slices.mean() == pytest.approx(0, abs=1e-5)
    assert slices.std() == pytest.approx(1, abs=1e-4)
    assert slices.max() < 4


def test_scale_and_offset_of_an_mr_do_not_matter():
    data = noise()
    one = Normalizer(scan(data), Preprocessing()).slices()
    other = Normalizer(scan(data * 5000 + 300), Preprocessing()).slices()
    np.testing.assert_allclose(one, other, atol=2e-3)


def soft(**changes):
    return Preprocessing(clipping="soft", normalize="unit", **changes)


def with_air():
    """A scan with a dark half; the 99.5th percentile of its body is 300, and its lowest value 0."""
    data = np.zeros((2, 100, 100), np.float32)
    data[1] = 100
    data[1, :10] = 300
    return data


def test_soft_clipping_is_linear_within_the_percentiles_and_compresses_beyond():
    data = with_air()
    data[1, 50, :3] = 600, 3000, -300
    values = Normalizer(scan(data), soft()).slices()[1, 0]
    np.testing.assert_allclose(values[60, 0], 1 / 3, atol=1e-6)
    np.testing.assert_allclose(values[0, 0], 1, atol=1e-6)
    expected = [2 - 1 / 2, 2 - 1 / 10, -1 / 2]
    np.testing.assert_allclose(values[50, :3], expected, atol=1e-5)


def test_soft_clipping_keeps_the_order_of_bright_values():
    data = with_air()
    data[1, 50, :20] = np.linspace(300, 5000, 20)
    values = Normalizer(scan(data), soft()).slices()[1, 0, 50, :20]
    assert (np.diff(values) > 0).all()
    hard = Normalizer(scan(data), Preprocessing(normalize="unit")).slices()[1, 0, 50, :20]
    assert (np.diff(hard) == 0).all()


def test_soft_clipping_does_not_depend_on_the_field_of_view():
    small = with_air()
    large = np.zeros((2, 200, 300), np.float32)
    large[:, 50:150, 100:200] = small
    expected = Normalizer(scan(small), soft()).slices()
    found = Normalizer(scan(large), soft()).slices()[:, :, 50:150, 100:200]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_one_spike_hardly_changes_softly_clipped_scans():
    data = noise((6, 60, 60))
    data[:, :20] = np.abs(noise((6, 20, 60))) / 50
    expected = Normalizer(scan(data), Preprocessing(clipping="soft")).slices()
    data[3, 40, 40] = 1e6
    found = Normalizer(scan(data), Preprocessing(clipping="soft")).slices()
    data_without = np.ones(data.shape, bool)
    data_without[3, 40, 40] = False
    assert np.abs(found - expected)[:, 0][data_without].max() < 0.02


@pytest.mark.parametrize("clipping", ["soft", "hard"])
def test_nearly_empty_scans_are_not_cut(clipping):
    data = np.zeros((4, 100, 100), np.float32)
    data[2, :2, :5] = np.arange(1, 11).reshape(2, 5)
    slices = Normalizer(scan(data), Preprocessing(clipping=clipping, normalize="unit")).slices()
    np.testing.assert_allclose(slices[2, 0, :2, :5], data[2, :2, :5] / 10, atol=1e-6)


def test_new_runs_clip_softly_and_records_without_the_setting_clip_hard():
    assert default_preprocessing("MR").clipping == "soft"
    assert default_preprocessing("MR", 3).clipping == "soft"
    record = default_preprocessing("MR").model_dump(exclude={"clipping"})
    assert Preprocessing.model_validate(record).clipping == "hard"


def test_a_ct_window_maps_its_bounds_to_0_and_1():
    data = np.array([-1000, -160, 40, 240, 3000], np.int16).reshape(1, 1, 5)
    settings = Preprocessing(modality="CT", windows=CT_WINDOWS["soft-tissue"], normalize="unit")
    values = Normalizer(scan(data, modality="CT"), settings).slices()[0, 0, 0]
    np.testing.assert_allclose(values, [0, 0, 0.5, 1, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("soft-tissue", [(-160, 240)]),
        ("three", [(-150, 250), (-860, 940), (-200, 300)]),
        ("kidney", [(-80, 300)]),
    ],
)
def test_named_windows_have_the_bounds_of_their_papers(name, bounds):
    assert [window.bounds for window in CT_WINDOWS[name]] == bounds


def test_three_windows_are_three_channels_each_standardised_per_slice():
    data = np.random.default_rng(1).uniform(-1000, 1000, (3, 20, 20)).astype(np.float32)
    data[1] *= 0.2
    settings = Preprocessing(modality="CT", normalize="slice")
    slices = Normalizer(scan(data, modality="CT"), settings).slices()
    assert slices.shape == (3, 3, 20, 20)
    np.testing.assert_allclose(slices.mean(axis=(2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(slices.std(axis=(2, 3)), 1, atol=1e-4)


def test_a_slice_of_air_stays_zero_when_slices_are_standardised():
    data = noise()
    data[2] = 0
    slices = Normalizer(scan(data), Preprocessing(normalize="slice")).slices()
    np.testing.assert_array_equal(slices[2], 0)


def test_a_constant_scan_is_refused_by_name():
    with pytest.raises(DataError, match=r"\ba has the same value"):
        Normalizer(scan(np.full((2, 8, 8), 7, np.int16)), Preprocessing()).slices()


@pytest.mark.parametrize("values", [(-2000, -1500), (3000, 9000)])
def test_a_ct_outside_of_all_windows_is_refused_by_name(values):
    data = np.linspace(*values, 128).reshape(2, 8, 8).astype(np.float32)
    with pytest.raises(DataError, match=r"\ba has values .*--modality MR"):
        Normalizer(scan(data, modality="CT"), default_preprocessing("CT")).slices()


def test_another_modality_is_refused():
    with pytest.raises(DataError, match=r"CT.* MR"):
        Normalizer(scan(noise(), modality="CT"), Preprocessing()).slices()


@pytest.mark.parametrize(
    ("plane", "shape"),
    [("axial", (6, 30, 40)), ("coronal", (30, 6, 40)), ("sagittal", (40, 6, 30))],
)
def test_every_plane_can_be_sliced(plane, shape):
    data = noise()
    slices = Normalizer(scan(data), Preprocessing(plane=plane, normalize="unit")).slices()
    assert (slices.shape[0], *slices.shape[2:]) == shape
    axis = {"axial": 0, "coronal": 1, "sagittal": 2}[plane]
    low, high = np.percentile(data, (0.5, 99.5))
    expected = (np.clip(data.take(3, axis), low, high) - low) / (high - low)
    np.testing.assert_allclose(slices[3, 0], expected, atol=1e-5)


def test_isotropic_and_given_pixel_sizes():
    geometry = scan(noise((6, 30, 40)), (3.0, 2.0, 1.0)).geometry
    place = placement(geometry, Preprocessing(spacing="isotropic"))
    assert place == Placement((30, 40), (60, 40), (64, 48))
    place = placement(geometry, Preprocessing(spacing=4.0))
    assert place == Placement((30, 40), (15, 10), (16, 16))
    coronal = placement(geometry, Preprocessing(spacing="isotropic", plane="coronal"))
    assert coronal.resampled == (18, 40)


def test_the_canvas_is_the_largest_slice_rounded_up_to_16():
    assert canvas_size([(30, 64), (49, 20)], Preprocessing()) == (64, 64)
    assert canvas_size([(30, 64)], Preprocessing(size=(128, 96))) == (128, 96)


def test_padding_with_air_is_undone_exactly():
    data = noise((2, 30, 37))
    place = placement(scan(data).geometry, Preprocessing())
    assert place.canvas == (32, 48)
    slices = torch.from_numpy(data)[:, None]
    canvas = place.put(slices, -5.0)
    assert (canvas[:, :, 0] == -5).all()
    assert (canvas[:, :, 1:31, 5:42] == slices).all()
    assert (place.take(canvas) == slices).all()


def test_a_slice_larger_than_the_canvas_is_cropped_around_its_centre():
    place = Placement((20, 20), (20, 20), (16, 16))
    slices = torch.arange(400.0).reshape(1, 1, 20, 20)
    canvas = place.put(slices)
    assert (canvas == slices[..., 2:18, 2:18]).all()
    back = place.take(canvas, fill=-1.0)
    assert (back[..., 2:18, 2:18] == canvas).all()
    assert (back[..., 0, :] == -1).all()


def test_resize_stretches_to_the_canvas_and_back():
    settings = Preprocessing(fit="resize", size=(64, 64))
    ramp = np.linspace(0, 1, 32, dtype=np.float32)
    data = np.stack([np.add.outer(ramp, 2 * ramp)] * 2)
    place = placement(scan(data).geometry, settings, settings.size)
    assert place == Placement((32, 32), (64, 64), (64, 64))
    slices = torch.from_numpy(data)[:, None]
    back = place.take(place.put(slices))
    np.testing.assert_allclose(back, slices, atol=0.03)


def test_resampling_keeps_the_place_of_an_object():
    # A block in the right half must stay in the right half, centred on the same millimetres.
    slices = torch.zeros(1, 1, 40, 40)
    slices[..., 10:20, 24:32] = 1
    for size in ((80, 80), (20, 20), (31, 57)):
        small = resample(slices, size)[0, 0]
        rows, columns = torch.meshgrid(*(torch.arange(n) + 0.5 for n in size), indexing="ij")
        assert float((small * rows).sum() / small.sum() / size[0]) == pytest.approx(
            15 / 40, abs=0.01
        )
        assert float((small * columns).sum() / small.sum() / size[1]) == pytest.approx(
            28 / 40, abs=0.01
        )


def test_labels_keep_their_values_when_resampled():
    labels = np.zeros((2, 30, 30), np.uint8)
    labels[:, 5:15, 5:15] = 7
    labels[:, 20:25, 5:15] = 2
    volume = scan(labels, (1.0, 1.0, 1.0))
    settings = Preprocessing(spacing=0.7)
    put = prepare_labels(labels, placement(volume.geometry, settings))
    assert put.dtype == np.uint8
    assert set(np.unique(put)) == {0, 2, 7}
    assert (put == 7).mean() * put[0].size * 0.7**2 == pytest.approx(100, rel=0.15)


def test_padding_is_air():
    data = noise((2, 30, 30))
    volume = scan(data)
    images = prepare(
        Normalizer(volume, Preprocessing()), placement(volume.geometry, Preprocessing())
    )
    assert images.dtype == np.float32
    assert images[:, 0, 0, 0] == pytest.approx(images.min())


def test_each_slice_has_its_own_padding_when_slices_are_standardised():
    data = np.random.default_rng(2).normal(40, 20, (3, 30, 30)).astype(np.float32)
    data[1:, :10] = -1000
    data[0, 0, 0] = -1000  # one voxel of air is many deviations below the mean of its slice
    volume = scan(data, modality="CT")
    settings = Preprocessing(modality="CT", normalize="slice")
    images = prepare(Normalizer(volume, settings), placement(volume.geometry, settings))
    for slices in images:
        for channel in slices:
            assert channel[0, 0] == channel[1:31, 1:31].min()
    assert images[1:, :, 0, 0].min() > -3 > images[0, :, 0, 0].min()


def test_infinite_values_in_memory_are_refused():
    data = noise()
    data[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="NaN or infinite"):
        Normalizer(scan(data), Preprocessing()).slices()


@pytest.mark.parametrize("classes", [(0, 1), (1, 1), (1, -2), ()])
def test_classes_are_different_values_above_0(classes):
    with pytest.raises(ConfigError, match="classes"):
        make_settings(FinetuneSettings, classes=classes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (100, 64)}, "multiples of 16"),
        ({"clip_percentiles": (99, 1)}, "clip_percentiles must rise"),
        ({"spacing": 0.001}, "Spacing must lie"),
        ({"plane": "oblique"}, "plane"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make_settings(Preprocessing, **settings)
    assert "\n" not in str(caught.value)


def test_a_window_needs_a_width():
    with pytest.raises(ConfigError, match="width"):
        make_settings(Window, width=0, level=40)
