"""Small phantom patients as files, for tests that train."""

from pathlib import Path

from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.scans.formats.nifti import write_nifti


def write_small_scans(folder: Path, n: int, modality: str = "MR") -> Path:
    """Write ``n`` patients of 12 slices of 48 × 48 pixels."""
    folder.mkdir(parents=True)
    for seed in range(n):
        scan, _ = make_patient(seed, modality, (12, 48, 48), (16.0, 7.5, 7.5))
        source = scan.geometry.to_source(scan.data)
        write_nifti(source, scan.geometry, None, folder / f"patient_{seed}.nii.gz")
    return folder
