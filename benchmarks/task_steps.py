"""Complete pretraining step of every task, compared with the bare step of the same network.

The bare step is forward, backward and Adam of the model that the task trains, on one constant batch
of as many images as the task passes through it (two views, or three examples, for the contrastive
tasks), with the mean square of the output as loss. The complete step is that of the package: fetch,
corrupt or crop, forward, loss, backward, Adam, schedule, events. Both alternate in one process,
each starting first in every other round, and the ratio is the median over rounds. For spark the
bare step is that of the plain network, without masking.

Targets: at most 1.05 times the bare step, 1.10 for spark.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from napari_sslseg.core.common.compute.devices import make_fabric
from napari_sslseg.core.common.events import Event, return_value
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.pretext.contrast.local_task import DecoderWithHead
from napari_sslseg.core.runs.run import RunWriter
from napari_sslseg.core.samples.crops import CropStore, iter_crops
from napari_sslseg.core.samples.slices import SliceStore
from napari_sslseg.core.samples.store import SampleStore, StoredScan
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.networks import Dense3dNetwork, DynUNet3dNetwork, Network
from napari_sslseg.core.settings.preprocessing import Preprocessing, VolumePreprocessing
from napari_sslseg.core.settings.pretext.registry import TASKS, make_task
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.training.job import TrainingJob
from napari_sslseg.core.training.train import train

NETWORK = Network.preset("small")
VOLUME_NETWORK = DynUNet3dNetwork(widths=(8, 16, 32, 64))
IMAGES_PER_EXAMPLE = {"global-contrast": 2, "local-contrast": 2, "polycl": 3, "siamese": 2}
OPTIONS = {"polycl": {"selection": "scan"}, "local-contrast": {"freeze_encoder": False}}
TARGETS = {"spark": 1.10}


def scans(shape: tuple[int, int, int]) -> list[Volume]:
    rng = np.random.default_rng(0)
    geometry = Geometry(np.diag([1.0, 1, 1, 1]), shape)
    shape = geometry.display_shape
    return [
        Volume(rng.normal(size=shape).astype(np.float32), geometry, name=f"{i}") for i in (0, 1)
    ]


def slices(side: int) -> SliceStore:
    return SliceStore.build(scans((side, side, 64)), Preprocessing())


def crops(size: tuple[int, int, int]) -> CropStore:
    store = return_value(iter_crops(scans(size[::-1]), VolumePreprocessing(size=size)))
    assert store is not None  # since nothing stops it
    # Like organ crops of several patients, for the task that compares sides.
    places = np.tile(store._crops, (8, 1))
    records = [StoredScan(f"{i}", f"{i}", i, 1) for i in range(len(places))]
    sides = (np.arange(len(places)) % 2).astype(np.int8)
    return CropStore(store._arrays, places, records, store.size, store.settings, (), sides)


def whole_steps(store: SampleStore, runtime, model, batch: int, folder: Path) -> Iterator[Event]:
    """Events of the real loop, one a step."""
    fabric = make_fabric("cpu")
    settings = Training(steps=10**6, batch_size=batch, checkpoint_seconds=1e9)

    def loss(model, indices, generator):
        images = store.batch(indices).to(fabric.device)
        return runtime.loss(model, images, runtime.sample_slices(indices, generator))

    job = TrainingJob(model, settings, runtime.batches(store.indices(), batch), 10**6, loss)
    return train(job, RunWriter(folder, {"kind": "pretrain", "settings": {}}), fabric)


def bare_steps(store: SampleStore, model, images: int) -> Iterator[None]:
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    constant = store.batch(np.arange(images) % len(store))
    # The head of the local contrast also takes positions; it is small compared with the decoder.
    local = isinstance(model, DecoderWithHead)
    forward = (lambda batch: model.decoder(model.encoder(batch))) if local else model
    while True:
        loss = forward(constant).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        yield


def seconds(steps: Iterator, n: int) -> float:
    start = time.perf_counter()
    for _ in range(n):
        next(steps)
    return (time.perf_counter() - start) / n


def compare(name: str, store: SampleStore, network, batch: int, rounds: int) -> list[str]:
    task = make_task(name, store.size, **OPTIONS.get(name, {}))
    runtime = task.build(store.size, 0)
    runtime.set_store(store)

    def plain():
        return make_network(
            network, store.channels, runtime.output_channels(store.channels), output_kernel=3
        )

    wrapped = runtime.wrap(plain())
    bare_model = plain() if name == "spark" else runtime.wrap(plain())
    images = batch * IMAGES_PER_EXAMPLE.get(name, 1)
    with tempfile.TemporaryDirectory() as folder:
        whole = whole_steps(store, runtime, wrapped, batch, Path(folder))
        bare = bare_steps(store, bare_model, images)
        seconds(whole, 3), seconds(bare, 3)
        pairs = []
        for turn in range(rounds):
            if turn % 2:
                ours = seconds(whole, 1)
                pairs.append((ours, seconds(bare, 1)))
            else:
                theirs = seconds(bare, 1)
                pairs.append((seconds(whole, 1), theirs))
        whole.close()
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    sides = " × ".join(map(str, store.size))
    return [
        name,
        network.kind,
        f"{images} × {sides}",
        f"{1000 * ours:.0f}",
        f"{1000 * theirs:.0f}",
        f"{ratio:.3f}",
        f"{TARGETS.get(name, 1.05):.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--dimensions", type=int, nargs="*", default=[2, 3])
    options = parser.parse_args()
    head = ["task", "network", "images", "whole step (ms)", "bare step (ms)", "ratio", "target"]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}", flush=True)
    for dimensions in options.dimensions:
        store = slices(128) if dimensions == 2 else crops((48, 64, 48))
        for name in options.tasks:
            if dimensions not in TASKS[name].dimensions:
                continue
            network = NETWORK if dimensions == 2 else VOLUME_NETWORK
            if name == "siamese":
                network = Dense3dNetwork()
            batch = 16 if dimensions == 2 else 2
            row = compare(name, store, network, batch, options.rounds)
            print(f"| {' | '.join(row)} |", flush=True)
    print(f"\nThreads: {torch.get_num_threads()}; torch {torch.__version__}.")


if __name__ == "__main__":
    main()
