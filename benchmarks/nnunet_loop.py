"""The 2D trainer of nnU-Net, one step at a time, for ``training_speed.py``; not a script."""

import json
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import nibabel
import torch

from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.settings.networks import Network

PROCESSES = "nnUNet_n_proc_DA"


def nnunet_steps(
    scans: list[LabelledScan],
    network: Network,
    folder: Path,
    workers: int,
    batch: int,
    side: int,
    spacing: float,
) -> Iterator[None]:
    """Plan, preprocess, and train; the output of nnU-Net is suppressed."""
    folder = folder / f"nnunet-{workers}"
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir(parents=True)
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    os.environ[PROCESSES] = "1"  # while it plans
    with redirect_stdout(StringIO()):
        trainer = _trainer(scans, network, folder, batch, side, spacing)
        os.environ[PROCESSES] = str(workers)
        trainer.on_train_start()
    try:
        while True:
            trainer.train_step(next(trainer.dataloader_train))
            yield
    finally:
        for loader in (trainer.dataloader_train, trainer.dataloader_val):
            if hasattr(loader, "_finish"):
                loader._finish()


def _trainer(scans, network, folder, batch, side, spacing):
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprint_dataset,
        plan_experiment_dataset,
        preprocess_dataset,
    )
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class Trainer(nnUNetTrainer):
        """The trainer with our network, without deep supervision; nothing else is changed."""

        @staticmethod
        def build_network_architecture(plans_manager, configuration_manager, inputs, outputs, deep):
            return make_network(network, inputs, outputs)

        def set_deep_supervision_enabled(self, enabled):
            pass

        def plot_network_architecture(self):
            pass

    raw = folder / "raw" / "Dataset001_Speed"
    for name in ("imagesTr", "labelsTr"):
        (raw / name).mkdir(parents=True)
    for number, scan in enumerate(scans):
        nibabel.save(
            nibabel.load(scan.scan.files[0]), raw / "imagesTr" / f"s_{number:03}_0000.nii.gz"
        )
        nibabel.save(
            nibabel.load(getattr(scan.labels, "files", [scan.labels])[0]),
            raw / "labelsTr" / f"s_{number:03}.nii.gz",
        )
    about = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "structure": 1},
        "numTraining": len(scans),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(about))
    extract_fingerprint_dataset(1, num_processes=1, show_progress_bar=False)
    plan_experiment_dataset(1)
    target = folder / "preprocessed" / "Dataset001_Speed"
    plans = json.loads((target / "nnUNetPlans.json").read_text())
    # The same slices, pixels and batch size as ours.
    plans["configurations"]["2d"] |= {
        "spacing": [spacing, spacing],
        "patch_size": [side, side],
        "batch_size": batch,
    }
    (target / "nnUNetPlans.json").write_text(json.dumps(plans))
    preprocess_dataset(1, configurations=("2d",), num_processes=(1,), show_progress_bar=False)
    plans["continue_training"] = False
    trainer = Trainer(plans, "2d", 0, about, torch.device("cpu"))
    trainer.enable_deep_supervision = False
    return trainer
