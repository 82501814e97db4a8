"""Write the folders next to this file with the installed version of napari-sslseg.

    python make.py OUT

Run it with the version whose folders the next one must read, and commit what it writes.
Only public names are used. See ``tests/core/stages/test_version_before.py``.
"""

import sys
from pathlib import Path

import nibabel
import numpy as np

from napari_sslseg import core
from napari_sslseg.core import StopFlag

N_SCANS = 4
SHAPE = (32, 32, 6)
AFFINE = np.diag([1.0, 1.2, 1.5, 1.0])


def write_scans(folder):
    """Noisy MR scans with a bright box, and their label maps."""
    (folder / "scans").mkdir(parents=True)
    (folder / "labels").mkdir()
    for number in range(N_SCANS):
        rng = np.random.default_rng(number)
        data = rng.normal(100, 20, SHAPE)
        box = (*(slice(s := int(rng.integers(3, 18)), s + 9) for _ in range(2)), slice(1, 5))
        data[box] += 150
        labels = np.zeros(SHAPE, np.uint8)
        labels[box] = 7
        for kind, values in (("scans", data.astype(np.int16)), ("labels", labels)):
            image = nibabel.Nifti1Image(values, AFFINE)
            nibabel.save(image, folder / kind / f"patient_{number}.nii.gz")


def training(steps=12):
    return core.Training(steps=steps, batch_size=4, learning_rate=1e-3, seed=3)


def network():
    return core.Network(widths=(4, 8, 8))


def stop_after(events, stop, steps):
    """Run a number of steps, then stop."""
    done = 0
    for event in events:
        done += type(event).__name__ == "Step"
        if done == steps:
            stop.set()


def pretrain(scans, out):
    settings = core.PretrainSettings(network=network(), training=training(), validation_share=0.25)
    task = core.ContextRestoration(patch_size=8)
    return core.pretrain(scans, task, settings=settings, out=out, device="cpu")


def iter_finetune(labelled, init, out, **options):
    return core.iter_finetune(
        labelled[:-1],
        validation=labelled[-1:],
        init=init,
        settings=core.FinetuneSettings(training=training()),
        out=out,
        device="cpu",
        **options,
    )


def iter_two_stages(scans, out, **options):
    preset = core.preset_named("umapathy-2022-contrastive").with_overrides(
        training={"steps": 6, "epochs": None, "batch_size": 4, "seed": 3, "optimizer": "sgd"},
        network=core.UmapathyNetwork(widths=(2, 4, 4, 4)),
        preprocessing={"size": (32, 32)},
    )
    return core.iter_pretrain_preset(scans, preset, out=out, device="cpu", **options)


def write_project(folder, root):
    """A project with two classes, labels, done slices, an accepted prediction and a run."""
    with core.Project.create(folder) as project:
        names = project.add_scans(root / "scans").added
        project.set_role(names[3], "test")
        project.add_class("lesion", 7, "#123456")
        project.add_class("organ", 2)
        for name in names[:2]:
            project.import_labels(name, root / "labels" / f"{name}.nii.gz")
        project.unmark(names[1], [1])
        project.remember("network", "tiny")
        split = project.split_validation(0.5)
        settings = core.FinetuneSettings(network=network(), training=training(6))
        out = project.new_run_folder("finetune")
        run = core.finetune(
            split.training, validation=split.validation, settings=settings, out=out, device="cpu"
        )
        labels = core.predict(run, project.load(names[2]), device="cpu").labels
        project.note_accepted(names[2], [2, 3], run.folder.name)
        project.save_labels(names[2], labels)


def main(root):
    import torch

    torch.set_num_threads(1)
    write_scans(root)
    scans = core.list_series([root / "scans"])
    labelled = core.pair_scans(root / "scans", root / "labels")
    runs = root / "runs"
    first = pretrain(scans, runs / "pretrain")
    stop = StopFlag()
    stop_after(iter_finetune(labelled, first, runs / "finetune", stop=stop), stop, 6)
    for stage, steps in ((1, 3), (2, 9)):
        stop = StopFlag()
        out = runs / f"two-stages-{stage}"
        stop_after(iter_two_stages(scans, out, stop=stop), stop, steps)
    write_project(root / "project", root)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
