"""A project of two small scans to label."""

import nibabel as nib
import numpy as np
import pytest

from labelling_screen import NAMES, SHAPE
from napari_sslseg.core.project.project import Project


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    paths = []
    for seed, name in enumerate(NAMES):
        values = np.random.default_rng(seed).normal(300, 60, SHAPE[::-1]).astype(np.int16)
        paths.append(tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 3.0, 1.0])), paths[-1])
    with Project.create(tmp_path / "project") as project:
        project.add_scans(paths)
        assert project.names == NAMES
        project.add_class("liver")
        project.add_class("spleen")
        project.remember("scan", NAMES[0])
    return tmp_path / "project"
