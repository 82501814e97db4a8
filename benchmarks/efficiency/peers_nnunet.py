"""nnU-Net v2 in its 2D configuration, with its own planning, training and prediction.

Unchanged are: fingerprint, plan and preprocessing, from only the labelled scans (so voxel size and
patches differ from the slices of the other arms); the planned network, with deep supervision;
augmentation with mirroring, oversampling of the foreground, loss, SGD with Nesterov momentum and
clipped gradients; sliding windows with Gaussian weights and mirroring along both axes, the default
of its prediction; and the resampling to the voxels of the scan.

Adapted to the other arms are: the data, only the complete scans of the labelled subjects; the
number of steps, over which its learning rate decays polynomially step by step (by default it trains
for 250,000 steps and decays the rate every 250); and the batch size, the planned one but at most
that of the other arms. For few subjects it plans the minimum of 2 slices, since a batch must not
contain more than 5 % of the voxels. It trains on all cases (its fold ``all``, since one subject
cannot be split) without validation, and the last weights are used. Augmentation runs in the
training process, so that the number of threads is the same.
"""

import json
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
import torch

from napari_sslseg import core
from napari_sslseg.core.scans.labelled import LabelledScan

DATASET = "Dataset001_Labelled"
ENDING = ".nii.gz"
PROCESSES = "nnUNet_n_proc_DA"


class NnUNet:
    """A trained nnU-Net: from a scan to its label map."""

    def __init__(self, predictor: Any, classes: tuple[int, ...]) -> None:
        self.predictor = predictor
        self.values = np.array([0, *classes])

    def __call__(self, scan: core.Volume) -> np.ndarray:
        """Labels of every voxel, in the display grid."""
        image = scan.data[None].astype(np.float32)
        with redirect_stdout(StringIO()):
            found = self.predictor.predict_single_npy_array(image, {"spacing": list(scan.spacing)})
        return self.values[found]


def fit_nnunet(
    labelled: Sequence[LabelledScan],
    classes: tuple[int, ...],
    *,
    steps: int,
    most_per_batch: int,
    seed: int,
    threads: int,
    device: str,
    folder: Path,
) -> NnUNet:
    """Plan, preprocess and train; its files stay in ``folder``, which is not needed afterwards."""
    names = ("raw", "preprocessed", "results")
    settings = {f"nnUNet_{name}": str(folder / name) for name in names}
    # It reads the number of threads for resampling when it is imported below.
    settings |= {"nnUNet_def_n_proc": str(threads), "nnUNet_compile": "false"}
    with _environment(settings), redirect_stdout(StringIO()):
        about = _write_cases(labelled, classes, folder / "raw" / DATASET)
        # The same variable sets the threads of its planner, then its augmentation processes.
        with _environment({PROCESSES: str(threads)}):
            plans = _plan(most_per_batch, folder)
        _seed(seed)
        with _environment({PROCESSES: "0"}):
            trainer = _trained(plans, about, steps, device)
        return NnUNet(_predictor(trainer), classes)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables, the only way to set the folders of nnU-Net."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _seed(seed: int) -> None:
    """Seed the global generators, which nnU-Net uses."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def _write_cases(
    labelled: Sequence[LabelledScan], classes: tuple[int, ...], folder: Path
) -> dict[str, Any]:
    """Write scans, labels and ``dataset.json`` in the format of nnU-Net; return the latter."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    modalities = set()
    for number, pair in enumerate(labelled):
        scan, truth = pair.load()
        modalities.add(scan.modality)
        # Its labels are consecutive; other values are background, as in the other arms.
        labels = np.zeros(truth.data.shape, np.uint8)
        for value, wanted in enumerate(classes, 1):
            labels[truth.data == wanted] = value
        # The display grid, so that training and prediction have the same orientation.
        _save(scan.data.astype(np.float32), scan, folder / f"imagesTr/case_{number:03}_0000")
        _save(labels, scan, folder / f"labelsTr/case_{number:03}")
    about = {
        # This name determines how intensities are normalised.
        "channel_names": {"0": "CT" if modalities == {"CT"} else "MRI"},
        "labels": {"background": 0} | {f"class {c}": n for n, c in enumerate(classes, 1)},
        "numTraining": len(labelled),
        "file_ending": ENDING,
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    return about


def _save(values: np.ndarray, scan: core.Volume, path: Path) -> None:
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(scan.spacing[::-1])
    SimpleITK.WriteImage(image, f"{path}{ENDING}")


def _plan(most_per_batch: int, folder: Path) -> dict[str, Any]:
    """Plan, with a smaller batch if necessary, and preprocess the cases."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprint_dataset,
        plan_experiment_dataset,
    )
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    extract_fingerprint_dataset(1, num_processes=1, show_progress_bar=False)
    plan_experiment_dataset(1)
    target = folder / "preprocessed" / DATASET
    plans = json.loads((target / "nnUNetPlans.json").read_text())
    planned = plans["configurations"]["2d"]
    planned["batch_size"] = min(planned["batch_size"], most_per_batch)
    manager = PlansManager(plans)
    configuration = manager.get_configuration("2d")
    about = json.loads((folder / "raw" / DATASET / "dataset.json").read_text())
    cases = get_filenames_of_train_images_and_targets(str(folder / "raw" / DATASET), about)
    place = target / configuration.data_identifier
    place.mkdir()
    preprocessor = configuration.preprocessor_class(verbose=False)
    for name, files in cases.items():
        # Sequentially, since its own loop over cases starts further processes.
        preprocessor.run_case_save(
            str(place / name), files["images"], files["label"], manager, configuration, about
        )
    return plans


def _trained(plans: dict[str, Any], about: dict[str, Any], steps: int, device: str) -> Any:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    # Needed by its trainer, and set by its command line.
    plans["continue_training"] = False
    trainer = nnUNetTrainer(plans, "2d", "all", about, torch.device(device))
    # Its learning rate decays per epoch.
    trainer.num_epochs, trainer.num_iterations_per_epoch = steps, 1
    trainer.on_train_start()
    trainer.network.train()
    for step in range(steps):
        trainer.lr_scheduler.step(step)
        trainer.train_step(next(trainer.dataloader_train))
    trainer.set_deep_supervision_enabled(False)
    return trainer


def _predictor(trainer: Any) -> Any:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=trainer.device, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network.eval(),
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    return predictor
