"""A file format is added in one place: one file and one line."""

from pathlib import Path

import npe2
import numpy as np
import pytest

import napari_sslseg
from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.results.predict_files import iter_predict
from napari_sslseg.core.scans.formats.registry import (
    all_suffixes,
    dialog_filter,
    label_formats,
    label_suffixes,
)
from napari_sslseg.core.scans.names import scan_name


class NpzFile:
    """A scan in a NumPy archive: ``values`` and an ``affine`` to RAS+ mm."""

    def __init__(self, path):
        self.path, self.frames, self.header, self.notes = path, 1, None, ()
        with np.load(path) as archive:
            self._values, affine = archive["values"], archive["affine"]
        self.geometry = core.Geometry(affine, self._values.shape)

    def values(self, frame=0):
        return self._values


def write_npz(labels, geometry, header, path):
    np.savez_compressed(path, values=labels, affine=geometry.affine)


NPZ = core.FileFormat("NumPy archive", (".npz",), reader=NpzFile, writer=write_npz)


@pytest.fixture
def npz():
    core.register_format(NPZ)
    yield
    core.unregister_format(NPZ.name)


@pytest.fixture
def folders(tmp_path, npz):
    """Two phantom patients as scans and labels in the toy format."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir(), labels.mkdir()
    for number in (1, 2):
        scan, truth = make_patient(number, "CT", (8, 32, 32), (6.0, 10.0, 10.0))
        source = scan.geometry.to_source(scan.data)
        write_npz(source, scan.geometry, None, images / f"patient_{number}.npz")
        core.save_labels(truth.data, labels / f"patient_{number}.npz", like=scan)
    return images, labels


def test_scans_of_a_new_format_are_found_and_loaded(folders):
    images, labels = folders
    one = core.load_volume(images / "patient_1.npz")
    assert one.name == "patient_1"
    expected, truth = make_patient(1, "CT", (8, 32, 32), (6.0, 10.0, 10.0))
    np.testing.assert_array_equal(one.data, expected.data)
    assert one.geometry.matches(expected.geometry)
    assert [volume.name for volume in core.load_volumes(images)] == ["patient_1", "patient_2"]
    found = core.load_labels(labels / "patient_1.npz", like=one)
    np.testing.assert_array_equal(found.data, truth.data)


def test_a_network_trains_on_a_new_format_and_predictions_are_written_in_it(folders, tmp_path):
    images, labels = folders
    pairs = core.pair_scans(images, labels)
    settings = core.FinetuneSettings(
        network=core.Network(widths=(8, 16)),
        preprocessing=core.Preprocessing(modality="CT"),
        training=core.Training(steps=2, batch_size=2),
    )
    run = core.finetune(pairs, settings=settings, out=tmp_path / "run", device="cpu")
    out = tmp_path / "predictions"
    written, failed = list(iter_predict(run, [images], out=out, suffix=".npz"))[-1].result
    assert not failed
    assert [Path(path).name for path in written] == ["patient_1.npz", "patient_2.npz"]
    scan = core.load_volume(images / "patient_1.npz")
    assert core.load_labels(written[0], like=scan).data.shape == scan.data.shape


def test_dialogs_and_lists_of_formats_name_a_new_format(npz):
    assert "*.npz" in dialog_filter("Scans")
    assert ".npz" in label_suffixes()
    assert label_formats()[".npz"] == "NumPy archive"
    assert scan_name("liver_01.npz") == "liver_01"


def test_a_format_that_was_removed_is_unknown(npz, tmp_path):
    core.unregister_format(NPZ.name)
    assert ".npz" not in all_suffixes()
    with pytest.raises(core.SslsegError, match=r"\.nii\.gz"):
        core.save_labels(np.zeros((2, 2, 2), int), tmp_path / "labels.npz")
    core.register_format(NPZ)


def test_names_and_suffixes_are_unique(npz):
    with pytest.raises(ConfigError, match="NumPy archive"):
        core.register_format(NPZ)
    with pytest.raises(ConfigError, match=r"\.nii"):
        core.register_format(core.FileFormat("other", (".nii",), reader=NpzFile))
    with pytest.raises(ConfigError, match="NRRD"):
        core.register_format(core.FileFormat("other", (".nrrd",), reader=NpzFile))
    with pytest.raises(ConfigError, match="nonsense"):
        core.unregister_format("nonsense")


@pytest.mark.parametrize("suffixes", [(), ("npz",), (".NPZ",)])
def test_suffixes_are_lower_case_with_a_dot(suffixes):
    with pytest.raises(ConfigError, match="toy"):
        core.FileFormat("toy", suffixes)


def test_the_manifest_of_napari_names_all_suffixes():
    """The manifest is a static file, so it cannot be derived from the table."""
    path = Path(napari_sslseg.__file__).parent / "napari.yaml"
    contributions = npe2.PluginManifest.from_file(path).contributions
    patterns = contributions.readers[0].filename_patterns
    assert {f"*{suffix}" for suffix in all_suffixes()} <= set(patterns)
    written = [suffix for writer in contributions.writers for suffix in writer.filename_extensions]
    assert written == list(label_suffixes())
