"""The same seed gives the same weights bit for bit, for any order and storage of the scans."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from napari_sslseg import core
from paths import HELPERS
from training_process import SEEDS, scan

PROGRAM = HELPERS / "determinism_process.py"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run the same job in three processes: two identical ones, and one with reversed scans."""
    folder = tmp_path_factory.mktemp("determinism")
    for seed in SEEDS:
        image, labels = scan(seed)
        for kind, volume in (("images", image), ("labels", labels)):
            (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
            write(volume, folder / "data" / kind / f"case{seed}.nii.gz")
    ways = {"first": ("plain", "0"), "again": ("plain", "1"), "other": ("other", "2")}
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", PROGRAM, folder / "data", folder / name, way],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, (way, hash_seed) in ways.items()
    ]
    for process in started:
        errors = process.communicate()[1]
        assert process.returncode == 0, errors
    return folder


def write(volume: core.Volume, path: Path) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(volume.data, volume.geometry.affine), path)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
@pytest.mark.parametrize("name", ["again", "other"])
def test_the_weights_are_the_same(runs, stage, name):
    first, second = (load_file(runs / way / stage / "last.safetensors") for way in ("first", name))
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key


def test_one_of_the_runs_stored_slices_on_disk(runs):
    assert any((runs / "other" / "cache").iterdir())
    assert not (runs / "first" / "pretrain" / "slices").exists()
