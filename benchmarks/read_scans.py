"""Time and memory of reading scans, compared with SimpleITK and nibabel on the same files.

A CT series of 400 files of 512×512 pixels and a NIfTI volume of the same values are written to a
temporary folder (about 0.7 GB) and read alternately, so that both readers find the files in the
cache of the system. Ours sorts and checks the series and places it in the patient; SimpleITK's
ImageSeriesReader is given the file names in order. Memory is the peak of the resident memory of a
process that reads once, minus that before reading.

Targets: at most 1.2 times SimpleITK's time and 1.3 times the size of the volume; at most 1.1 times
the time of nibabel's get_fdata(dtype=float32); headers of 1,000 files in at most 3 s.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from napari_sslseg.core import list_series, load_volume

MEMORY = """
import sys
from napari_sslseg.core import load_volume
load_volume(sys.argv[2])  # a small one first, to exclude imports and buffers
def kib(name):
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])
before = kib("VmRSS")
volume = load_volume(sys.argv[1])
print((kib("VmHWM") - before) * 1024 / volume.data.nbytes)
"""


def write_series(folder: Path, values: np.ndarray) -> list[str]:
    folder.mkdir()
    series, study = generate_uid(), generate_uid()
    names = []
    for index, plane in enumerate(values):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        path = folder / f"{index:04d}.dcm"
        ds = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
        ds.PatientID, ds.PatientName, ds.Modality = "1", "Bench^Mark", "CT"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SeriesNumber, ds.InstanceNumber = 1, index + 1
        ds.ImagePositionPatient = [-180.0, -180.0, -400 + index * 1.25]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = [0.7, 0.7], 1.25
        ds.Rows, ds.Columns = plane.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelData = plane.astype("<u2").tobytes()
        ds.save_as(path, enforce_file_format=True)
        names.append(str(path))
    return names


def in_turns(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> list[float]:
    """Median seconds of both, and of the ratio within each round."""
    ours(), theirs()
    times = []
    for number in range(rounds):
        turn = {}
        for name, read in (("o", ours), ("t", theirs))[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            read()
            turn[name] = time.perf_counter() - start
        times.append((turn["o"], turn["t"], turn["o"] / turn["t"]))
    return [statistics.median(column) for column in zip(*times, strict=True)]


def sitk_series(names: list[str]) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(names)
    return reader.Execute()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slices", type=int, default=400)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Smooth, so that it compresses about as well as a scan.
        rng = np.random.default_rng(0)
        values = rng.normal(1024, 20, (options.slices, 512, 512)).astype(np.int16).clip(0, 4095)
        names = write_series(folder / "ct", values)
        write_series(folder / "small", values[:3, :8, :8])
        affine = np.diag([-0.7, -0.7, 1.25, 1])
        for suffix in (".nii", ".nii.gz"):
            part = values if suffix == ".nii" else values[: options.slices // 4]
            nib.save(nib.Nifti1Image(part.transpose(2, 1, 0), affine), folder / f"ct{suffix}")
        nib.save(nib.Nifti1Image(values[:3, :8, :8], affine), folder / "small.nii")
        cases = {
            "DICOM series": (folder / "ct", lambda path: sitk_series(names), 1.2, 1.3),
            "NIfTI": (folder / "ct.nii", nibabel_values, 1.1, None),
            "NIfTI, gzip": (folder / "ct.nii.gz", nibabel_values, 1.1, None),
        }
        print("| file | ours (s) | peer (s) | ratio | target | memory / volume | target |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for title, (path, peer, target, memory) in cases.items():
            mine, theirs, ratio = in_turns(
                lambda path=path: load_volume(path, modality="CT"),
                lambda path=path, peer=peer: peer(path),
                options.rounds,
            )
            small = folder / ("small" if path.is_dir() else "small.nii")
            peak = float(
                subprocess.run(
                    [sys.executable, "-c", MEMORY, path, small],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            print(
                f"| {title} | {mine:.2f} | {theirs:.2f} | {ratio:.2f} | {target} | {peak:.2f} "
                f"| {memory or '–'} |"
            )
        start = time.perf_counter()
        list_series(folder / "ct")
        seconds = (time.perf_counter() - start) / len(names) * 1000
        print(f"\nHeaders of 1,000 files: {seconds:.2f} s (target 3).")


def nibabel_values(path: Path) -> np.ndarray:
    return nib.load(path).get_fdata(dtype=np.float32)


if __name__ == "__main__":
    main()
