"""Memory of preparing and predicting large scans."""

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_sslseg.core.common.events import Message
from napari_sslseg.core.results.predict import Segmenter, predict
from napari_sslseg.core.results.predict_files import iter_predict
from napari_sslseg.core.results.prediction.memory import prediction_memory
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.samples.build import default_preprocessing
from napari_sslseg.core.samples.slices import SliceStore
from napari_sslseg.core.scans.volume import load_volume
from napari_sslseg.core.settings.preprocessing import VolumePreprocessing

# Three windows and three slices as input, 36 bytes for each voxel of the scan.
SCRIPT = """
import sys, threading, time
import numpy as np, torch
from pathlib import Path
from napari_sslseg.core.results.predict import Segmenter, predict
from napari_sslseg.core.results.prediction.memory import prediction_memory
from napari_sslseg.core.samples.build import default_preprocessing
from napari_sslseg.core.samples.slices import SliceStore
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.volume import Volume

torch.set_num_threads(1)
values = np.full((48, 512, 512), -1000, np.int16)
values[:, 100:400, 100:400] = 40
geometry = Geometry(np.diag([1.0, 1.0, 5.0, 1.0]), (512, 512, 48))
scan = Volume(geometry.to_display(values.T), geometry, "CT")
settings = default_preprocessing("CT", spacing=scan.spacing).model_copy(update={"neighbours": 1})
segmenter = Segmenter(torch.nn.Conv2d(9, 2, 1), settings, (1,), "cpu")
predict(segmenter, Volume(scan.data[:4], Geometry(geometry.affine, (512, 512, 4)), "CT"))

def resident():
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])

def peak_of(work):
    highest, done, before = [0], threading.Event(), resident()
    def watch():
        while not done.is_set():
            highest[0] = max(highest[0], resident())
            time.sleep(0.002)
    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return highest[0] - before

print(peak_of(lambda: predict(segmenter, scan, probabilities=False)))
print(prediction_memory(geometry, settings, 2, uncertainty=True))
cache = Path(sys.argv[1])
print(peak_of(lambda: SliceStore.build([scan], settings, storage="disk", cache=cache)))
"""


def network(channels):
    torch.manual_seed(0)
    return torch.nn.Conv2d(channels, 2, 1).eval()


def ct(tmp_path, shape=(20, 24, 7)):
    values = np.random.default_rng(0).normal(0, 200, shape).astype(np.int16)
    values[:4] = -1000
    path = tmp_path / "ct.nii.gz"
    nib.save(nib.Nifti1Image(values, np.diag([1.0, 1, 4, 1])), path)
    return load_volume(path, modality="CT")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process from /proc")
def test_a_large_scan_takes_little_more_memory_than_its_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True
    )
    predicting, estimated, storing = map(int, done.stdout.split())
    voxels = 48 * 512 * 512
    # A prediction of the whole scan at once would take more than 72 bytes per voxel.
    assert predicting < 24 * voxels
    assert predicting < estimated
    # Three channels of float32 are 12 bytes per voxel, and placing them takes two copies.
    assert storing < 16 * voxels


@pytest.mark.parametrize("normalize", ["volume", "slice", "unit"])
@pytest.mark.parametrize("neighbours", [0, 2])
def test_batches_of_any_size_give_the_same_prediction(tmp_path, normalize, neighbours):
    scan = ct(tmp_path)
    settings = default_preprocessing("CT").model_copy(
        update={"normalize": normalize, "neighbours": neighbours, "spacing": 1.3}
    )
    segmenter = Segmenter(network(settings.channels), settings, (1,), "cpu")
    whole = predict(segmenter, scan)
    for size in (1, 3):
        parts = predict(segmenter, scan, batch_size=size)
        np.testing.assert_allclose(parts.probabilities, whole.probabilities, atol=1e-6)


def test_a_store_does_not_depend_on_how_many_slices_are_prepared_at_once(tmp_path, monkeypatch):
    scan = ct(tmp_path)
    settings = default_preprocessing("CT", spacing=scan.spacing)
    whole = SliceStore.build([scan], settings)
    monkeypatch.setitem(SliceStore.build.__func__.__globals__, "PREPARED_AT_ONCE", 1)
    parts = SliceStore.build([scan], settings)
    np.testing.assert_array_equal(parts.images, whole.images)


def test_uncertainty_is_kept_only_if_it_is_wanted(tmp_path):
    scan = ct(tmp_path)
    settings = default_preprocessing("CT")
    segmenter = Segmenter(network(settings.channels), settings, (1,), "cpu")
    assert predict(segmenter, scan, uncertainty=False).uncertainty is None
    found = predict(segmenter, scan)
    p = found.probabilities.astype(np.float64)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(0) / np.log(2)
    np.testing.assert_allclose(found.uncertainty, entropy, atol=1e-3)


def test_volumes_take_more_memory_than_slices(tmp_path):
    geometry = ct(tmp_path, (40, 40, 40)).geometry
    slices, volumes = default_preprocessing("CT"), VolumePreprocessing(modality="CT")
    assert prediction_memory(geometry, volumes, 2) > prediction_memory(geometry, slices, 2)


def test_a_scan_that_does_not_fit_is_refused_before_it_is_read_and_others_are_segmented(
    tmp_path, monkeypatch
):
    images = tmp_path / "images"
    images.mkdir()
    small = nib.Nifti1Image(np.arange(16 * 16 * 2, dtype=np.int16).reshape(16, 16, 2), np.eye(4))
    nib.save(small, images / "small.nii")
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((30_000, 30_000, 2_000))
    header.set_sform(np.eye(4), 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with (images / "large.nii").open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.truncate(352 + 2 * 30_000 * 30_000 * 2_000)  # takes no space on the disk
    settings = default_preprocessing("MR")
    segmenter = Segmenter(network(1), settings, (1,), "cpu")
    monkeypatch.setitem(iter_predict.__globals__, "load_segmenter", lambda *_: segmenter)
    (tmp_path / "last.safetensors").write_bytes(b"weights")
    run = Run(tmp_path, {"kind": "finetune"})
    events = list(iter_predict(run, [images], out=tmp_path / "out", modality="MR"))
    written, failed = events[-1].result
    assert [path.name for path in written] == ["small.nii.gz"]
    (problem,) = failed
    assert "large" in problem
    assert "memory" in problem
    assert any("large" in event.text for event in events if isinstance(event, Message))
