import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.events import Progress, StopFlag, return_value
from napari_sslseg.core.pretext.contrast.siamese_crops import iter_organ_crops
from napari_sslseg.core.pretext.contrast.side_pairs import LEFT, RIGHT, UNKNOWN
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.sources import collect_scans, organ_slices, with_masks
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.preprocessing import CT_WINDOWS, VolumePreprocessing
from napari_sslseg.core.settings.pretext.registry import make_task

CT = VolumePreprocessing(modality="CT", windows=CT_WINDOWS["kidney"], spacing=(4.0, 4.0, 4.0))
KIDNEYS = {"left": (3,), "right": (2,), "crop": (48, 48, 48)}


def scan(data, name="a", modality="MR"):
    """A scan whose display grid is ``data``; axes towards inferior, posterior, left."""
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = -1
    affine[3, 3] = 1
    return Volume(data, Geometry(affine, data.shape), modality, name, name)


@pytest.fixture(scope="module")
def patients():
    return [
        LabelledScan(*core.make_patient(seed, "CT", (24, 64, 64), (8, 5.6, 5.6)))
        for seed in range(2)
    ]


def test_each_kidney_gives_a_masked_crop_with_its_side(patients):
    store = return_value(iter_organ_crops(patients, CT, make_task("siamese", **KIDNEYS)))
    assert (len(store), store.size, store.channels) == (4, (48, 48, 48), 1)
    assert store.sides.tolist() == [LEFT, RIGHT, LEFT, RIGHT]
    assert store.scan_index.tolist() == [0, 0, 1, 1]
    crops = store.batch(np.arange(4)).numpy()
    for crop, label in zip(crops[:2, 0], (3, 2), strict=True):
        mm3 = np.count_nonzero(crop) * 4**3
        voxels = np.count_nonzero(patients[0].labels.data == label)
        assert mm3 == pytest.approx(voxels * 8 * 5.6 * 5.6, rel=0.1)
        # Centred to within a voxel.
        places = np.argwhere(crop != 0)
        assert np.abs((places.min(0) + places.max(0) + 1) / 2 - 24).max() <= 1


def test_one_label_for_both_kidneys_gives_the_same_crops(patients):
    merged = [
        LabelledScan(
            p.scan, Volume(np.isin(p.labels.data, (2, 3)) * 1, p.labels.geometry, "CT", "x")
        )
        for p in patients
    ]
    two = return_value(iter_organ_crops(patients, CT, make_task("siamese", **KIDNEYS)))
    one = return_value(
        iter_organ_crops(merged, CT, make_task("siamese", organ=(1,), crop=(48, 48, 48)))
    )
    assert one.sides.tolist() == two.sides.tolist()
    assert np.array_equal(one.batch(np.arange(4)), two.batch(np.arange(4)))


def test_several_labels_are_one_organ():
    """Kidney and tumour, as in the paper."""
    data = np.random.default_rng(0).normal(size=(16, 16, 32)).astype(np.float32)
    labels = np.zeros(data.shape, np.uint8)
    labels[4:8, 4:8, 20:24], labels[8:10, 4:8, 20:24] = 1, 2
    labels[4:8, 4:8, 4:8] = 5
    task = make_task("siamese", left=(1, 2), right=(5,), crop=(16, 16, 16), background="keep")
    store = return_value(
        iter_organ_crops([LabelledScan(scan(data), scan(labels))], VolumePreprocessing(), task)
    )
    whole = return_value(
        iter_organ_crops(
            [LabelledScan(scan(data), scan(labels))],
            VolumePreprocessing(),
            make_task("siamese", left=(1, 2), right=(5,), crop=(16, 16, 16)),
        )
    )
    crops = whole.batch(np.arange(2)).numpy()
    assert np.count_nonzero(crops[0]) == 6 * 4 * 4
    assert np.count_nonzero(crops[1]) == 4 * 4 * 4
    kept = store.batch(np.arange(2)).numpy()
    inside = crops != 0
    assert np.array_equal(kept[inside], crops[inside])
    assert np.count_nonzero(kept) > np.count_nonzero(crops)


def test_scans_of_one_organ_need_no_mask():
    data = np.random.default_rng(0).normal(size=(20, 30, 24)).astype(np.float32)
    task = make_task("siamese", sides="mirror", crop=(32, 32, 32), background="keep")
    store = return_value(
        iter_organ_crops([scan(data), scan(data, "b")], VolumePreprocessing(), task)
    )
    assert store.sides.tolist() == [UNKNOWN, UNKNOWN]
    crop = store.batch(np.array([0]))[0, 0].numpy()
    low, high = np.percentile(data, (0.5, 99.5))
    expected = np.clip(data, low, high)
    expected = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(crop[6:26, 1:31, 4:28], expected, atol=1e-4)


def test_scans_without_organ_or_mask_are_refused(patients):
    with pytest.raises(DataError, match="phantom_ct_000 has no mask"):
        return_value(iter_organ_crops([patients[0].scan], CT, make_task("siamese", **KIDNEYS)))
    wrong = make_task("siamese", left=(40,), right=(41,), crop=(48, 48, 48))
    with pytest.raises(DataError, match="organ"):
        return_value(iter_organ_crops(patients, CT, wrong))


def test_progress_is_reported_and_stop_ends_it(patients):
    task = make_task("siamese", **KIDNEYS)
    steps = iter_organ_crops(patients, CT, task)
    assert next(steps) == Progress("Cutting out organs", 1, 2)
    stop = StopFlag()
    stop.set()
    assert return_value(iter_organ_crops(patients, CT, task, stop=stop)) is None


# --- masks ------------------------------------------------------------------------------------


def test_masks_are_matched_to_scans_by_name(tmp_path):
    core.write_dataset(tmp_path / "all", 3, "MR", seed=1)
    (tmp_path / "all" / "labels" / "phantom_mr_002.nii.gz").unlink()
    scans = with_masks(collect_scans(tmp_path / "all" / "images"), tmp_path / "all" / "labels")
    assert [isinstance(s, LabelledScan) for s in scans] == [True, False, True]
    tags = organ_slices(scans, "axial", (2, 3))
    assert sorted(tags) == ["phantom_mr_001", "phantom_mr_003"]
    _, truth = core.make_patient(1, "MR")
    shown = np.isin(truth.data, (2, 3)).any(axis=(1, 2))
    assert tags["phantom_mr_001"] == tuple(np.flatnonzero(shown))
    every = organ_slices(scans, "sagittal")
    shown = (truth.data > 0).any(axis=(0, 1))
    assert every["phantom_mr_001"] == tuple(np.flatnonzero(shown))


def test_masks_of_other_names_are_refused(tmp_path):
    core.write_dataset(tmp_path / "a", 1, "MR", seed=1)
    core.write_dataset(tmp_path / "b", 1, "MR", seed=5)
    with pytest.raises(DataError, match=r"No mask"):
        with_masks(collect_scans(tmp_path / "a" / "images"), tmp_path / "b" / "labels")


def test_two_scans_of_one_name_are_refused(tmp_path):
    core.write_dataset(tmp_path / "a", 1, "MR", seed=1)
    core.write_dataset(tmp_path / "b", 1, "MR", seed=1)
    both = collect_scans([tmp_path / "a" / "images", tmp_path / "b" / "images"])
    with pytest.raises(DataError, match="phantom_mr_001"):
        with_masks(both, tmp_path / "a" / "labels")


def test_crops_of_an_invalid_size_for_the_network_are_refused():
    from napari_sslseg.core.common.errors import ConfigError
    from napari_sslseg.core.networks.build import make_network

    task = make_task("siamese", sides="mirror", crop=(16, 16, 16)).build((16, 16, 16))
    network = make_network(core.DynUNet3dNetwork(widths=(4, 4, 4, 4, 4)), 1, 1)
    with pytest.raises(ConfigError, match=r"16 × 16 × 32.*16 × 16 × 16"):
        task.wrap(network)
