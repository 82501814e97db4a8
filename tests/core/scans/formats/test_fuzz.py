"""Damaged copies of real files are read correctly or refused with one sentence."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paths import HELPERS

PER_FILE = 32
LONGEST_SECONDS = 10.0
MOST_KIB = 2 * 1024**2

DICOM = "dicom/pydicom_test_files/src/pydicom/data/test_files"
BALL = "nifti_nrrd_mha/pynrrd/nrrd/tests/data/BallBinary30x30x30"
ELASTIX = "nifti_nrrd_mha/elastix_mha/Testing/Data"
SCT = "nifti_nrrd_mha/sct_testing_mr"
SEGMENTATIONS = "dicom/qiicr_dcmqi/data/segmentations"

# The file to damage, other files that it needs, and whether a checksum covers all values.
FILES = {
    "nii": ("nifti_nrrd_mha/monai/tests/testing_data/anatomical.nii", (), False),
    "nii-labels": (f"{SCT}/t2/labels.nii.gz", (), True),
    "nii.gz": (f"{SCT}/mt/mt0.nii.gz", (), True),
    "nrrd": (f"{BALL}.nrrd", (), False),
    "nrrd-gz": (f"{BALL}_gz.nrrd", (), False),
    "nrrd-bz2": (f"{BALL}_bz2.nrrd", (), False),
    "nhdr": (f"{BALL}.nhdr", (f"{BALL}.raw",), False),
    "raw-of-nhdr": (f"{BALL}.raw", (f"{BALL}.nhdr",), False),
    "mha": (f"{ELASTIX}/3DCT_lung_baseline_mask.mha", (), False),
    "mha-2d": (f"{ELASTIX}/2DMRI-T1_brain.mha", (), False),
    "dcm": (f"{DICOM}/MR_small.dcm", (), False),
    "dcm-implicit": (f"{DICOM}/MR_small_implicit.dcm", (), False),
    "dcm-big-endian": (f"{DICOM}/MR_small_bigendian.dcm", (), False),
    "dcm-rle": (f"{DICOM}/MR_small_RLE.dcm", (), False),
    "dcm-jpeg2000": (f"{DICOM}/MR_small_jp2klossless.dcm", (), False),
    "dcm-jpeg-ls": (f"{DICOM}/MR_small_jpeg_ls_lossless.dcm", (), False),
    "dcm-multi-frame": (f"{SEGMENTATIONS}/23x38x3/multiframe/mf.dcm", (), False),
    "dcm-seg": (
        f"{SEGMENTATIONS}/23x38x3/seg/label.seg",
        (f"{SEGMENTATIONS}/23x38x3/image",),
        False,
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_damaged_copies(data_dir, tmp_path, name):
    source, others, guarded = FILES[name]
    folder = tmp_path / "damaged"
    folder.mkdir()
    shutil.copy(data_dir / source, folder)
    like, opened = None, Path(source).name
    for other in others:
        if (data_dir / other).is_dir():
            like = shutil.copytree(data_dir / other, tmp_path / "like")
        else:
            shutil.copy(data_dir / other, folder)
            if opened.endswith(".raw"):
                opened = Path(other).name
    plan = {
        "file": str(data_dir / source),
        "folder": str(folder),
        "open": str(folder / opened),
        "like": like and str(like),
        "mutations": PER_FILE,
        "seed": sorted(FILES).index(name),
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    done = subprocess.run(
        [sys.executable, HELPERS / "fuzz_reader.py", tmp_path / "plan.json"],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    begun = [line for line in lines if "start" in line]
    ended = [line for line in lines if "end" in line]
    assert done.returncode == 0, f"{begun[-1:]}: {done.stderr[-2000:]}"
    assert len(ended) == PER_FILE
    for line, (number, kind) in zip(ended, ((b["start"], b["kind"]) for b in begun), strict=True):
        assert line["outcome"] in ("refused", "same", "other"), line
        assert line["seconds"] < LONGEST_SECONDS, line
        if kind == "cut" or guarded:
            assert line["outcome"] != "other", f"copy {number} ({kind}) was read as something else"
    outcomes = [line["outcome"] for line in ended]
    assert "refused" in outcomes  # the damage was real
    for line in lines:
        assert line.get("peak_kib", 0) < MOST_KIB
