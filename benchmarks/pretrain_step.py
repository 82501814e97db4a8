"""Complete pretraining step, compared with the bare step of the same network.

The bare step is forward, backward and Adam on one constant batch. The complete step is that of the
package: fetch the slices, corrupt them, forward, backward, clip, Adam, schedule, events. Both
alternate in one process, so that a change of the machine's speed affects both.

Target: the complete step takes at most 1.05 times the bare step.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from napari_sslseg.core.common.compute.devices import make_fabric
from napari_sslseg.core.networks.unet2d import UNet2d
from napari_sslseg.core.pretext.restoration.losses import restoration_l2
from napari_sslseg.core.runs.run import RunWriter
from napari_sslseg.core.samples.slices import SliceStore
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.networks import Network
from napari_sslseg.core.settings.preprocessing import Preprocessing
from napari_sslseg.core.settings.pretext.registry import default_task
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.training.job import TrainingJob
from napari_sslseg.core.training.sampler import shuffled_batches
from napari_sslseg.core.training.train import train

CASES = [("small", 64, 32), ("small", 128, 16), ("small", 256, 4), ("tiny", 128, 16)]


def scans(side: int) -> list[Volume]:
    rng = np.random.default_rng(0)
    geometry = Geometry(np.diag([1.0, 1, 1, 1]), (side, side, 64))
    shape = geometry.display_shape
    return [
        Volume(rng.normal(size=shape).astype(np.float32), geometry, name=f"{i}") for i in (0, 1)
    ]


def whole_steps(store: SliceStore, preset: str, batch: int, folder: Path):
    """Events of the real loop, one a step."""
    runtime = default_task(store.size).build(store.size, 0)
    fabric = make_fabric("cpu")
    settings = Training(steps=10**6, batch_size=batch, checkpoint_seconds=1e9)

    def loss(model, indices, generator):
        images = store.batch(indices).to(fabric.device)
        return runtime.loss(model, images, runtime.sample(len(indices), generator))

    model = UNet2d(1, 1, Network.preset(preset), output_kernel=3)
    job = TrainingJob(model, settings, shuffled_batches(store.indices(), batch), 10**6, loss)
    return train(job, RunWriter(folder, {"kind": "pretrain", "settings": {}}), fabric)


def bare_steps(store: SliceStore, preset: str, batch: int):
    model = UNet2d(1, 1, Network.preset(preset), output_kernel=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    images = store.batch(np.arange(batch))
    while True:
        loss = restoration_l2(model(images), images)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        yield


def seconds(steps, n: int) -> float:
    start = time.perf_counter()
    for _ in range(n):
        next(steps)
    return (time.perf_counter() - start) / n


def run(rounds: int = 30, per_round: int = 3) -> list[dict]:
    rows = []
    for preset, side, batch in CASES:
        store = SliceStore.build(scans(side), Preprocessing())
        with tempfile.TemporaryDirectory() as folder:
            whole = whole_steps(store, preset, batch, Path(folder))
            bare = bare_steps(store, preset, batch)
            seconds(whole, 3), seconds(bare, 3)
            pairs = [(seconds(whole, per_round), seconds(bare, per_round)) for _ in range(rounds)]
            whole.close()
        ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        rows.append(
            {
                "network": preset,
                "slices": f"{batch} × {side}×{side}",
                "whole step (ms)": f"{1000 * ours:.1f}",
                "bare step (ms)": f"{1000 * theirs:.1f}",
                "ratio": f"{ratio:.3f}",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rows = run(parser.parse_args().rounds)
    print(f"| {' | '.join(rows[0])} |\n|{' --- |' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(row.values())} |")
    print(f"\nThreads: {torch.get_num_threads()}; torch {torch.__version__}. Target: at most 1.05.")


if __name__ == "__main__":
    main()
