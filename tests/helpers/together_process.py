"""Trainings by one process or by several: python together_process.py OUT PROCESSES [resume].

A single process draws for each part of a batch from a separate generator, as several processes do,
so that both train on the same corrupted images.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch

from training_process import scan

SEED, BATCH, STEPS = 3, 8, 5
TASKS = ("context-restoration", "mae", "global-contrast", "polycl")
LOSSES = ("dice-ce", "dice", "dice-per-sample")


def join_parameters(parts):
    """Concatenate the parameters of the parts of a batch."""
    first = parts[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(parts)
    if dataclasses.is_dataclass(first):
        values = {
            field.name: join_parameters([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(first)
        }
        return type(first)(**values)
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    if isinstance(first, tuple):
        return tuple(join_parameters(list(values)) for values in zip(*parts, strict=True))
    assert isinstance(first, int) or all(part == first for part in parts), first
    return first


def draw_as_several(processes):
    """Make tasks and augmentations draw random numbers as several processes do."""
    from napari_sslseg.core.common.compute.randomness import SEEDS_APART
    from napari_sslseg.core.pretext.base import BaseTask
    from napari_sslseg.core.pretext.contrast import global_task as contrastive  # noqa: F401  # defines a subclass
    from napari_sslseg.core.segmentation import augment

    others = {}

    def generators(generator):
        if id(generator) not in others:
            apart = [
                torch.Generator().manual_seed(SEED + SEEDS_APART * n) for n in range(processes)
            ]
            others[id(generator)] = [generator, *apart[1:]]
        return others[id(generator)]

    def patched(original):
        def sample_slices(self, slices, generator):
            if len(slices) != BATCH or not torch.is_grad_enabled():
                return original(self, slices, generator)
            parts = np.split(slices, processes)
            drawn = zip(parts, generators(generator), strict=True)
            return join_parameters([original(self, part, source) for part, source in drawn])

        return sample_slices

    def augmentation(n, settings, generator, *rest):
        drawn = [own(n // processes, settings, source, *rest) for source in generators(generator)]
        return join_parameters(drawn)

    own = augment.sample_augmentation
    augment.sample_augmentation = augmentation
    stack = [BaseTask]
    while stack:
        kind = stack.pop()
        stack += kind.__subclasses__()
        if "sample_slices" in vars(kind):
            kind.sample_slices = patched(vars(kind)["sample_slices"])


def jobs(out, resume):
    """Yield the name and the events of every training."""
    from napari_sslseg import core
    from napari_sslseg.core.settings.pretext.registry import make_task

    labelled = [core.LabelledScan(*scan(seed)) for seed in range(1, 8)]
    scans = [item.scan for item in labelled]
    training = core.Training(
        # Adam amplifies rounding errors where gradients are nearly 0, so the learning rate is low.
        steps=STEPS,
        batch_size=BATCH,
        seed=SEED,
        validate_every=2,
        gradient_clip=1.0,
        learning_rate=1e-4,
    )
    tiny = core.Network.preset("tiny")
    for name in TASKS:
        options = {"patch_size": 8} if name in ("context-restoration", "mae") else {}
        more = {"resume": True} if resume else {
            "task": make_task(name, (48, 48), stride=tiny.stride, **options),
            "settings": core.PretrainSettings(
                network=tiny, training=training, validation_share=0.3
            ),
        }  # fmt: skip
        yield name, core.iter_pretrain(scans, out=out / name, device="cpu", **more)
    for loss in LOSSES:
        more = {"resume": True} if resume else {
            "settings": core.FinetuneSettings(
                network=tiny,
                training=training,
                loss=loss,
                # Noise is drawn from one seed for a whole batch.
                augmentation=core.Augmentation(noise=0),
            )
        }  # fmt: skip
        yield (
            loss,
            core.iter_finetune(
                labelled[:5], validation=labelled[5:], out=out / loss, device="cpu", **more
            ),
        )


def masked_loss():
    """Return the mean loss over all processes; images differ in their numbers of masked pixels."""
    from napari_sslseg.core.common.compute.distributed import all_gather_objects, shard
    from napari_sslseg.core.pretext.restoration.losses import masked_l2

    own = shard(np.arange(4))
    images = torch.arange(4 * 9.0).view(4, 1, 3, 3)[own]
    mask = torch.zeros(4, 1, 3, 3, dtype=torch.bool)
    mask[0, 0, 0, 0] = mask[3, 0, :2] = True
    return np.mean(
        all_gather_objects(float(masked_l2(images, torch.zeros_like(images), mask[own])))
    )


def main():
    from napari_sslseg import core
    from napari_sslseg.core.common.compute.distributed import is_first, rank
    from napari_sslseg.core.common.events import Done, Message

    out, processes, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    if processes == "1":
        draw_as_several(2)
    else:
        core.launch(int(processes), device="cpu")
    print(f"masked loss {masked_loss():.6g}", flush=True)
    for name, events in jobs(Path(out), "resume" in rest):
        for event in events:
            if is_first() and isinstance(event, Message):
                print(f"{name}: {event.text}", flush=True)
            if isinstance(event, Done):
                print(f"{name}: process {rank()} has {event.result.folder.name}", flush=True)


if __name__ == "__main__":
    main()
