import numpy as np
import pytest

from napari_sslseg.core.common.errors import DataError, GeometryError, StorageError
from napari_sslseg.core.common.events import StopFlag
from napari_sslseg.core.samples.slices import SliceStore, iter_store
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.matching.pair_scans import pair_scans
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.preprocessing import Preprocessing
from napari_sslseg.core.stages.split import split_subjects


def scan(seed, shape=(5, 20, 24), subject=None):
    data = np.random.default_rng(seed).normal(50, 10, shape).astype(np.float32)
    affine = np.array([[0, 0, -1.0, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
    name = f"scan{seed}"
    return Volume(data, Geometry(affine, shape), "MR", subject or name, name)


def labelled(seed, annotated=None):
    volume = scan(seed)
    labels = np.zeros(volume.data.shape, np.uint8)
    labels[1:3, 5:10, 5:10] = 2
    labels[4, 5:10, 5:10] = 9
    return LabelledScan(volume, Volume(labels, volume.geometry, name=volume.name), annotated)


def same(one, other):
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.annotated, other.annotated)
    np.testing.assert_array_equal(one.foreground, other.foreground)
    assert one.scans == other.scans
    assert one.settings == other.settings
    assert (one.labels is None) == (other.labels is None)
    if one.labels is not None:
        np.testing.assert_array_equal(one.labels, other.labels)


def test_scans_of_different_sizes_share_one_canvas():
    store = SliceStore.build([scan(1), scan(2, (3, 40, 10))], Preprocessing())
    assert store.images.shape == (8, 1, 48, 32)
    assert store.settings.size == (48, 32)
    assert [(s.name, s.start, s.n_slices) for s in store.scans] == [
        ("scan1", 0, 5),
        ("scan2", 5, 3),
    ]
    np.testing.assert_array_equal(store.scan_index, [0] * 5 + [1] * 3)


def test_a_batch_contains_the_requested_slices():
    store = SliceStore.build([scan(1), scan(2)], Preprocessing())
    batch = store.batch(np.array([7, 0, 7]))
    assert batch.shape == (3, 1, 32, 32)
    np.testing.assert_array_equal(batch.numpy(), store.images[[7, 0, 7]])


def test_labels_are_class_indices_and_only_annotated_slices_have_them():
    store = SliceStore.build([labelled(1, (1, 2, 3)), scan(2)], Preprocessing(), classes=(2, 9))
    np.testing.assert_array_equal(np.flatnonzero(store.annotated), [1, 2, 3])
    np.testing.assert_array_equal(np.flatnonzero(store.foreground), [1, 2])
    assert set(np.unique(store.labels)) == {0, 1}  # class 9 is on a slice that is not annotated
    assert store.label_batch(np.array([1, 3])).sum() == 25
    for index in (0, 4, 6):
        with pytest.raises(DataError, match="not annotated"):
            store.label_batch(np.array([1, index]))
    np.testing.assert_array_equal(store.indices(["scan1"], annotated=True), [1, 2, 3])


def test_an_unknown_value_is_refused_only_on_annotated_slices():
    SliceStore.build([labelled(1, (1, 2, 3))], Preprocessing(), classes=(2,))
    with pytest.raises(DataError, match=r"scan1 .*\b9\b"):
        SliceStore.build([labelled(1)], Preprocessing(), classes=(2,))


def test_a_store_on_disk_is_the_same_and_is_built_once(tmp_path):
    scans = [labelled(1), labelled(2, (0,)), scan(3)]
    memory = SliceStore.build(scans, Preprocessing(), classes=(2, 9))
    disk = SliceStore.build(scans, Preprocessing(), classes=(2, 9), storage="disk", cache=tmp_path)
    same(memory, disk)
    folder = next(path for path in tmp_path.iterdir())
    before = (folder / "images.raw").stat().st_mtime_ns
    again = SliceStore.build(scans, Preprocessing(), classes=(2, 9), storage="disk", cache=tmp_path)
    same(memory, again)
    assert (folder / "images.raw").stat().st_mtime_ns == before
    np.testing.assert_array_equal(again.batch(np.array([4, 1])), memory.batch(np.array([4, 1])))
    np.testing.assert_array_equal(again.batch(np.array([4, 1])), memory.batch(np.array([4, 1])))


@pytest.mark.parametrize("change", ["data", "settings", "annotated", "classes"])
def test_a_store_on_disk_is_rebuilt_after_any_change(tmp_path, change):
    def build(scans, settings=Preprocessing(), classes=(2, 9)):  # noqa: B008
        return SliceStore.build(scans, settings, classes=classes, storage="disk", cache=tmp_path)

    build([labelled(1)])
    if change == "data":
        build([labelled(2)])
    elif change == "settings":
        build([labelled(1)], Preprocessing(spacing=2.0))
    elif change == "annotated":
        build([labelled(1, (1,))])
    else:
        build([labelled(1)], classes=(9, 2))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_stop_while_reading_leaves_no_store(tmp_path):
    stop = StopFlag()
    scans = [scan(1), scan(2), scan(3)]
    steps = iter_store(scans, Preprocessing(), storage="disk", cache=tmp_path, stop=stop)
    next(steps)
    stop.set()
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["images", "index", "missing"])
def test_a_damaged_store_is_rebuilt(tmp_path, damage):
    def build():
        return SliceStore.build([scan(1)], Preprocessing(), storage="disk", cache=tmp_path)

    whole = build().images.copy()
    folder = next(tmp_path.iterdir())
    if damage == "images":
        (folder / "images.raw").write_bytes(b"short")
    elif damage == "index":
        (folder / "index.json").write_text("{")
    else:
        (folder / "images.raw").unlink()
    np.testing.assert_array_equal(build().images, whole)


def test_labels_on_another_grid_in_memory_are_refused():
    item = labelled(1)
    moved = item.labels.geometry.affine.copy()
    moved[0, 3] += 500
    elsewhere = Volume(item.labels.data, Geometry(moved, item.labels.geometry.shape))
    with pytest.raises(GeometryError, match="another grid"):
        SliceStore.build([LabelledScan(item.scan, elsewhere)], Preprocessing(), classes=(2, 9))


def test_large_label_values_survive_resampling():
    item = labelled(1)
    data = item.labels.data.astype(np.int32) * 2**23 + (item.labels.data > 0)
    values = tuple(int(v) for v in np.unique(data)[1:])
    scan_ = LabelledScan(item.scan, Volume(data, item.labels.geometry))
    store = SliceStore.build([scan_], Preprocessing(spacing=0.7), classes=values)
    assert set(np.unique(store.labels)) == {0, 1, 2}


def test_a_failure_leaves_no_incomplete_store(tmp_path):
    flat = scan(2)
    flat = Volume(np.zeros_like(flat.data), flat.geometry, "MR", "flat", "flat")
    with pytest.raises(DataError, match="flat has the same value"):
        SliceStore.build([scan(1), flat], Preprocessing(), storage="disk", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_is_not_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        SliceStore.build([scan(1)], Preprocessing(), storage="disk", cache=tmp_path / "file")


def test_an_empty_list_of_scans_is_refused():
    with pytest.raises(DataError, match="no scan"):
        SliceStore.build([], Preprocessing())


def test_a_split_by_subject_is_seeded():
    subjects = [f"p{i // 2}" for i in range(40)]
    parts = split_subjects(subjects, {"test": 0.25, "validation": 0.1, "training": 0.65}, seed=3)
    assert [len(part) for part in parts.values()] == [5, 2, 13]
    dealt = [subject for part in parts.values() for subject in part]
    assert sorted(dealt) == sorted(set(subjects))
    shares = {"test": 0.25, "validation": 0.1, "training": 0.65}
    assert split_subjects(reversed(subjects), shares, seed=3) == parts
    assert split_subjects(subjects, shares, seed=4) != parts


@pytest.mark.parametrize("n", [3, 25, 45, 65, 101])
def test_no_subject_is_lost_to_rounding(n):
    parts = split_subjects([f"p{i}" for i in range(n)], {"validation": 0.1, "training": 0.9})
    assert sum(len(part) for part in parts.values()) == n


def test_every_part_of_a_split_has_a_subject():
    parts = split_subjects(["a", "b", "c"], {"test": 0.1, "training": 0.9})
    assert len(parts["test"]) == 1
    assert len(parts["training"]) == 2


def test_real_volumes_of_very_different_scales(data_dir):
    folder = data_dir / "msd_hippocampus"
    pairs = pair_scans(folder / "images", folder / "labels")[:12]
    store = SliceStore.build(pairs, Preprocessing(), classes=(1, 2))
    assert store.annotated.all()
    assert 0.3 < store.foreground.mean() < 1
    # Scans differ in intensity by four orders of magnitude; slices must not.
    spread = [store.images[store.scan_index == i].std() for i in range(12)]
    assert max(spread) < 3 * min(spread)


def test_both_phases_of_a_patient_are_one_subject(data_dir):
    folder = data_dir / "sunnybrook_lv"
    pairs = pair_scans(folder / "images", folder / "labels")
    store = SliceStore.build(pairs[:6], Preprocessing(), classes=(1,))
    assert len(store.subjects) == 3
