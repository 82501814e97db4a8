"""A project of small scans, and a function that waits without a window."""

import time

import nibabel as nib
import numpy as np

from napari_sslseg.core.project.project import Project
from patience import LIMIT

SHAPE = (6, 16, 20)


def write_project(folder, names=("ann", "bob")):
    """Write a project of small scans; it opens with the first scan."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed, name in enumerate(names):
        values = np.random.default_rng(seed).normal(300, 60, SHAPE[::-1]).astype(np.int16)
        paths.append(folder / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 3.0, 1.0])), paths[-1])
    with Project.create(folder / "project") as project:
        project.add_scans(paths)
        project.add_class("liver")
        project.remember("scan", names[0])
    return folder / "project"


def until(session, condition, seconds=LIMIT):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        session.pump()
        time.sleep(0.005)
