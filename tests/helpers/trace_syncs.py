"""Print what reaches the disk, in order: trace_syncs.py run|project FOLDER.

Each line is a list: ``fsync PATH``, ``rename FROM TO``, ``mkdir PATH``, or ``said TEXT`` when
something is reported to be on the disk.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

_fsync, _replace, _rename, _mkdir = os.fsync, os.replace, os.rename, os.mkdir


def say(*words):
    print(json.dumps([str(word) for word in words]), flush=True)


def fsync(handle):
    say("fsync", os.readlink(f"/proc/self/fd/{handle}"))
    _fsync(handle)


def replace(source, target, **options):
    _replace(source, target, **options)
    say("rename", os.path.abspath(source), os.path.abspath(target))


def rename(source, target, **options):
    _rename(source, target, **options)
    say("rename", os.path.abspath(source), os.path.abspath(target))


def mkdir(path, *mode, **options):
    _mkdir(path, *mode, **options)
    say("mkdir", os.path.abspath(path))


def train(folder):
    from napari_sslseg.core.common.events import Done, Saved
    from training_process import events

    for event in events("finetune", folder / "run", 6, cache=folder / "cache"):
        if isinstance(event, Saved | Done):
            say("said", event)


def change_project(folder):
    import nibabel as nib

    from napari_sslseg.core.project.project import Project

    values = np.random.default_rng(0).integers(0, 900, (12, 10, 6)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.eye(4)), folder / "scan.nii.gz")
    with Project.create(folder / "inner" / "project") as project:
        say("said", "created")
        project.add_scans(folder / "scan.nii.gz")
        say("said", "added")
        labels = np.zeros(project.entry("scan").shape, np.uint8)
        for value in (1, 2):
            labels[value] = value
            project.save_labels("scan", labels)
            say("said", f"saved {value}")
            project.mark_done("scan", [value])
            say("said", f"done {value}")
        project.new_run_folder("finetune")
        say("said", "run folder")
        project.remove_scan("scan")
        say("said", "removed")


def main():
    what, folder = sys.argv[1], Path(sys.argv[2]).resolve()
    os.fsync, os.replace, os.rename, os.mkdir = fsync, replace, rename, mkdir
    {"run": train, "project": change_project}[what](folder)


if __name__ == "__main__":
    main()
