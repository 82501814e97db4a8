"""Fraction of the training time that checkpoints take.

A training in the loop of the package, with states at each epoch as often as the settings allow. The
time to write each state, with the sync to the disk, is measured, and so is hashing the scans of a
run.

Target: checkpoints take at most 1 % of the time.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from napari_sslseg.core.common.compute.devices import make_fabric
from napari_sslseg.core.common.events import Step
from napari_sslseg.core.networks.unet2d import UNet2d
from napari_sslseg.core.runs.run import RunWriter
from napari_sslseg.core.samples.slices import SliceStore
from napari_sslseg.core.samples.store import LoadedScan
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.networks import Network
from napari_sslseg.core.settings.preprocessing import Preprocessing
from napari_sslseg.core.settings.pretext.registry import default_task
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.training.job import TrainingJob
from napari_sslseg.core.training.loop import Loop
from napari_sslseg.core.training.sampler import shuffled_batches
from napari_sslseg.core.training.train import train

CASES = [("tiny", 64, 8), ("small", 64, 8), ("paper", 64, 4)]


def scan(side: int, slices: int = 32) -> Volume:
    geometry = Geometry(np.diag([1.0, 1, 1, 1]), (side, side, slices))
    values = np.random.default_rng(0).normal(size=geometry.display_shape)
    return Volume(values.astype(np.float32), geometry)


def steps(store: SliceStore, preset: str, batch: int, folder: Path, **settings):
    """Run the training loop, and measure the seconds of each checkpoint."""
    runtime = default_task(store.size).build(store.size, 0)
    fabric = make_fabric("cpu")
    model = UNet2d(1, 1, Network.preset(preset), output_kernel=3)

    def loss(model, indices, generator):
        images = store.batch(indices).to(fabric.device)
        return runtime.loss(model, images, runtime.sample(len(indices), generator))

    training = Training(steps=10**6, batch_size=batch, **settings)
    job = TrainingJob(model, training, shuffled_batches(store.indices(), batch), 4, loss)
    return train(job, RunWriter(folder, {"kind": "pretrain", "settings": {}}), fabric)


class Watch:
    """Sums the time of writing."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        save = Loop.save

        def watched(loop: Loop):
            begun = time.perf_counter()
            saved = save(loop)
            self.seconds.append(time.perf_counter() - begun)
            return saved

        Loop.save = watched


def case(preset: str, side: int, batch: int, seconds: float, watch: Watch, parent: Path) -> dict:
    store = SliceStore.build([scan(side)], Preprocessing())
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        watch.seconds.clear()
        often = steps(store, preset, batch, Path(folder), checkpoint_seconds=1e-3)
        begun, n = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            n += isinstance(next(often), Step)
        took = time.perf_counter() - begun
        spent, count = sum(watch.seconds), len(watch.seconds)
        size = sum(path.stat().st_size for path in Path(folder, "states").glob("*"))
        often.close()
    return {
        "network": preset,
        "slices": f"{batch} × {side}×{side}",
        "step (ms)": f"{1000 * (took - spent) / n:.0f}",
        "state (MB)": f"{size / max(1, min(2, count)) / 1e6:.1f}",
        "one checkpoint (ms)": f"{1000 * spent / max(1, count):.0f}",
        "checkpoints": f"{count} in {took:.0f} s",
        "share of the time": f"{100 * spent / took:.2f} %",
    }


def hashing() -> str:
    loaded = LoadedScan(scan(512, 64))
    begun = time.perf_counter()
    loaded.digests()
    return f"{loaded.volume.data.nbytes / 1e6 / (time.perf_counter() - begun):.0f} MB/s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for each network")
    parser.add_argument("--folder", type=Path, help="disk to write to; that for temporary files")
    options = parser.parse_args()
    watch = Watch()
    rows = [case(*c, options.seconds, watch, options.folder) for c in CASES]
    print(f"| {' | '.join(rows[0])} |\n|{' --- |' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(row.values())} |")
    print(f"\nHashing a scan in memory, as it is read: {hashing()}.")
    print(
        f"Threads: {torch.get_num_threads()} of {os.cpu_count()}; torch {torch.__version__}. "
        "Target: at most 1 %."
    )


if __name__ == "__main__":
    main()
