"""Images per second of training, compared with MONAI's usual loop and nnU-Net's trainer.

All train the same network with the same batch size on the same slices, each with its own loading,
augmentation and loop, alternating in one process. *MONAI*: ``CacheDataset`` (all cached), random
dictionary transforms equivalent to ours, ``DataLoader`` with two workers, ``DiceCELoss``, Adam.
*nnU-Net*: ``nnUNetTrainer`` with its augmentation, loss and optimiser, deep supervision off, two
augmentation processes and, a second time, none; it needs nnunetv2 (extra ``bench``).

Ours is ``iter_finetune`` and ``iter_pretrain``. With the same network the floating point operations
per image are the same, but our U-Net uses a memory layout of its features that is faster on the
CPU; one row shows MONAI's loop with the same layers in the default layout of PyTorch.

The other loops prepare batches in advance: steps on batches prepared before a measurement are not
counted, and our loop is measured only when their workers are idle. Ratios are medians over rounds
of images per second, and of images per second of CPU time of the process with its workers, which
hardly depends on the other load of the machine.

Targets: 2 times MONAI, 1.3 times nnU-Net; at most 5 % of a step outside forward, backward and
optimiser.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from napari_sslseg.core.common.events import Step
from napari_sslseg.core.networks import unet2d
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.networks.parts import EncoderDecoder
from napari_sslseg.core.pretext.restoration.base import RestorationTask
from napari_sslseg.core.samples.slices import SliceStore
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.matching.pair_scans import pair_scans
from napari_sslseg.core.segmentation.loss import SegmentationLoss
from napari_sslseg.core.settings.networks import Network
from napari_sslseg.core.settings.preprocessing import Preprocessing
from napari_sslseg.core.settings.pretext.context_patches import ContextRestoration
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.stages.finetune import iter_finetune
from napari_sslseg.core.stages.pretrain import iter_pretrain

BATCH, SIDE, SPACING, WORKERS = 16, 128, 2.5, 2
# Largest number of batches that another loop prepares in advance.
AHEAD = 7
PREPROCESSING = Preprocessing(modality="MR", spacing=SPACING, size=(SIDE, SIDE))
TRAINING = Training(
    steps=10**6, batch_size=BATCH, checkpoint_seconds=1e6, learning_rate=1e-3, gradient_clip=12.0
)


def finetuning(scans: list[LabelledScan], network: Network, folder: Path) -> Iterator[None]:
    settings = FinetuneSettings(preprocessing=PREPROCESSING, network=network, training=TRAINING)
    for event in iter_finetune(scans, out=folder / "finetune", settings=settings, device="cpu"):
        if isinstance(event, Step):
            yield


def pretraining(scans: list[LabelledScan], network: Network, folder: Path) -> Iterator[None]:
    settings = PretrainSettings(
        preprocessing=PREPROCESSING,
        network=network,
        training=TRAINING.model_copy(update={"gradient_clip": None}),
        validation_share=0,
    )
    task = ContextRestoration(patch_size=16)
    out = folder / "pretrain"
    for event in iter_pretrain(scans, task, out=out, settings=settings, device="cpu"):
        if isinstance(event, Step):
            yield


def monai_steps(store: SliceStore, network: Network, pretrain: bool) -> Iterator[None]:
    """The training loop of MONAI's tutorials, one step at a time."""
    from monai import transforms as mt
    from monai.data import CacheDataset, DataLoader
    from monai.losses import DiceCELoss

    items = [
        {"image": store.batch(np.array([i]))[0], "label": store.label_batch(np.array([i]))}
        for i in range(len(store))
    ]
    both = ["image", "label"]
    if pretrain:
        random = [
            mt.CopyItemsd("image", names="whole"),
            # About a quarter of the slice, as in ours.
            mt.RandCoarseDropoutd("image", holes=16, spatial_size=16, dropout_holes=True, prob=1),
        ]
    else:
        random = [
            # Elastic and affine changes in one interpolation.
            mt.Rand2DElasticd(
                both,
                spacing=(SIDE / 4, SIDE / 4),
                magnitude_range=(0, 0.06 * SIDE),
                prob=1,
                rotate_range=np.deg2rad(15),
                translate_range=0.1 * SIDE,
                scale_range=0.25,
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            mt.RandScaleIntensityd("image", factors=0.2, prob=1),
            mt.RandShiftIntensityd("image", offsets=0.2, prob=1),
            mt.RandGaussianNoised("image", std=0.1, prob=1),
        ]
    data = CacheDataset(items, mt.Compose([mt.EnsureTyped(both), *random]), progress=False)
    loader = DataLoader(
        data,
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
    )
    model = make_network(network, 1, 1 if pretrain else 2, output_kernel=3 if pretrain else 1)
    compare = nn.MSELoss()
    if not pretrain:
        compare = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    while True:
        for batch in loader:
            optimizer.zero_grad()
            target = batch["whole" if pretrain else "label"]
            loss = compare(model(batch["image"]), target)
            loss.backward()
            optimizer.step()
            loss.item()
            yield


def as_pytorch_does(steps: Iterator[None]) -> Iterator[None]:
    """The same steps in the default memory layout."""
    while True:
        with patch.object(unet2d, "fast_layout", lambda features: features):
            next(steps)
        yield


class Timed:
    """Seconds of our loop in the named parts of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = False

    def _wrap(self, name: str, function: Callable) -> Callable:
        def timed(*args, **kwargs):
            if self._inside:
                return function(*args, **kwargs)
            self._inside = True
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._inside = False
                spent = time.perf_counter() - start
                self.seconds[name] = self.seconds.get(name, 0) + spent

        return timed

    @contextmanager
    def watching(self, task: type[RestorationTask] | None) -> Iterator[None]:
        parts = [
            ("forward", EncoderDecoder, "forward"),
            ("loss", SegmentationLoss, "__call__") if task is None else ("loss", task, "compare"),
            ("backward", torch.Tensor, "backward"),
            ("optimiser", torch.optim.Adam, "step"),
        ]
        patches = []
        for name, owner, attribute in parts:
            timed = self._wrap(name, getattr(owner, attribute))
            patches.append(
                patch.object(
                    owner, attribute, staticmethod(timed) if task and name == "loss" else timed
                )
            )
        for one in patches:
            one.start()
        try:
            yield
        finally:
            for one in patches:
                one.stop()


def overhead(make: Callable[[], Iterator[None]], task: type | None, steps: int) -> list[str]:
    """Fractions of a step outside its main parts, medians over steps."""
    timed = Timed()
    with timed.watching(task):
        running = make()
        for _ in range(3):
            next(running)
        shares, with_loss = [], []
        for _ in range(steps):
            timed.seconds.clear()
            start = time.perf_counter()
            next(running)
            whole = time.perf_counter() - start
            shares.append(1 - sum(timed.seconds.values()) / whole)
            with_loss.append(shares[-1] + timed.seconds["loss"] / whole)
        running.close()
    return [f"{100 * statistics.median(v):.1f} %" for v in (shares, with_loss)]


def cpu_seconds() -> float:
    """CPU time of this process and of its workers."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def come_to_rest(least: float = 0.3) -> None:
    """Wait until the workers have prepared all batches that they can."""
    before = cpu_seconds()
    while True:
        time.sleep(least)
        now = cpu_seconds()
        if now - before < 0.1 * least:
            return
        before = now


def speeds(
    contestants: dict[str, Iterator[None]], rounds: int, steps: int
) -> dict[str, list[tuple[float, float]]]:
    """Images per second of wall-clock and CPU time, by loop and round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for name, running in contestants.items():
        for _ in range(2 if name == "ours" else AHEAD):
            next(running)
    for _ in range(rounds):
        for name, running in contestants.items():
            come_to_rest()
            for _ in range(1 if name == "ours" else AHEAD):
                next(running)
            start, cpu = time.perf_counter(), cpu_seconds()
            for _ in range(steps):
                next(running)
            wall, cpu = time.perf_counter() - start, cpu_seconds() - cpu
            found[name].append((steps * BATCH / wall, steps * BATCH / cpu))
    return found


def rows(found: dict[str, list[tuple[float, float]]]) -> Iterator[list[str]]:
    ours = found["ours"]
    for name, values in found.items():
        row = [name]
        for kind in (0, 1):
            row.append(f"{statistics.median(v[kind] for v in values):.1f}")
            ratio = statistics.median(a[kind] / b[kind] for a, b in zip(ours, values, strict=True))
            row.append("" if name == "ours" else f"{ratio:.2f}")
        yield row


def gigaflops(network: Network) -> float:
    """Operations of forward and backward of one image, in GFLOP."""
    with FlopCounterMode(display=False) as counter:
        make_network(network, 1, 2)(torch.zeros(1, 1, SIDE, SIDE)).sum().backward()
    return counter.get_total_flops() / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with images/ and labels/ (NIfTI)")
    parser.add_argument("--scans", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--networks", nargs="*", default=["tiny", "small"])
    parser.add_argument("--stages", nargs="*", default=["pretrain", "finetune"])
    parser.add_argument("--peers", nargs="*", default=["monai", "nnunet"])
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = options.data or phantoms(folder / "data")
        scans = pair_scans(data / "images", data / "labels", every_image=False)[: options.scans]
        store = SliceStore.build(scans, PREPROCESSING, classes=(1,))
        head = ["network", "stage", "loop", "images/s", "ours is times", "per CPU second", "times"]
        print(f"{len(store)} slices of {SIDE} × {SIDE}, batches of {BATCH}.\n")
        print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}", flush=True)
        shares = []
        for name in options.networks:
            network = Network.preset(name)
            for stage in options.stages:
                pretrain = stage == "pretrain"
                make = pretraining if pretrain else finetuning
                place = folder / f"{name}-{stage}"
                contestants = {"ours": make(scans, network, place / "ours")}
                if "monai" in options.peers:
                    contestants["MONAI"] = monai_steps(store, network, pretrain)
                    contestants["MONAI, PyTorch's layout"] = as_pytorch_does(
                        monai_steps(store, network, pretrain)
                    )
                if "nnunet" in options.peers and not pretrain:
                    from nnunet_loop import nnunet_steps

                    sizes = BATCH, SIDE, SPACING
                    for workers in (WORKERS, 0):
                        loop = f"nnU-Net, {workers} workers"
                        contestants[loop] = nnunet_steps(scans, network, place, workers, *sizes)
                    contestants["nnU-Net, PyTorch's layout"] = as_pytorch_does(
                        nnunet_steps(scans, network, place / "plain", WORKERS, *sizes)
                    )
                for row in rows(speeds(contestants, options.rounds, options.steps)):
                    print(f"| {' | '.join([name, stage, *row])} |", flush=True)
                for running in contestants.values():
                    running.close()
                del contestants
                task = type(ContextRestoration().build((SIDE, SIDE), 0)) if pretrain else None
                share = overhead(
                    lambda m=make, n=network, p=place: m(scans, n, p / "timed"), task, 12
                )
                shares.append([name, stage, *share, f"{gigaflops(network):.2f}"])
    head = ["network", "stage", "outside", "with the loss", "GFLOP per image"]
    print(f"\n| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for row in shares:
        print(f"| {' | '.join(row)} |")
    print(f"\nThreads: {torch.get_num_threads()}; torch {torch.__version__}.")


def phantoms(folder: Path) -> Path:
    """Make phantom patients, if no scans are given."""
    from napari_sslseg.core.demo.phantom.patient import write_dataset

    write_dataset(folder, 6)
    return folder


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
