"""A tiny run in a separate process: python training_process.py KIND OUT [STEPS] [resume].

Scans are generated from seeds, so that a test needs no files. A state is saved after 0.05 s at the
earliest.
"""

import sys
from pathlib import Path

import numpy as np

SEEDS = (1, 2, 3, 4, 5)


def scan(seed):
    """Return a noisy MR with a bright box, and its labels."""
    from napari_sslseg.core.scans.geometry import Geometry
    from napari_sslseg.core.scans.volume import Volume

    rng = np.random.default_rng(seed)
    geometry = Geometry(np.diag([1.5, 1.0, 1.2, 1.0]), (36, 40, 6))
    data = rng.normal(100, 20, geometry.display_shape).astype(np.float32)
    labels = np.zeros(data.shape, np.uint8)
    box = (slice(1, 5), *(slice(s := int(rng.integers(2, n - 12)), s + 9) for n in data.shape[1:]))
    data[box] += 200
    labels[box] = 7
    name = f"case{seed}"
    return Volume(data, geometry, "MR", name, name), Volume(labels, geometry, name=name)


def training(steps, save_after=0.05):
    from napari_sslseg.core.settings.training import Training

    return Training(
        steps=steps, batch_size=4, learning_rate=1e-3, seed=3, checkpoint_share=1,
        checkpoint_seconds=save_after,
    )  # fmt: skip


def events(kind, out, steps=24, resume=False, seeds=SEEDS, save_after=0.05, **options):
    """Start or resume a training, and return its events."""
    from napari_sslseg import core

    labelled = [core.LabelledScan(*scan(seed)) for seed in seeds]
    if kind == "pretrain":
        settings = core.PretrainSettings(
            network=core.Network.preset("tiny"),
            training=training(steps, save_after),
            validation_share=0.2,
        )
        given = {} if resume else {
            "task": core.ContextRestoration(patch_size=8), "settings": settings
        }  # fmt: skip
        return core.iter_pretrain(
            [item.scan for item in labelled], out=out, resume=resume, device="cpu", **given,
            **options,
        )  # fmt: skip
    settings = core.FinetuneSettings(
        network=core.MultiMixNetwork(widths=(4, 8, 8)), training=training(steps, save_after)
    )
    if resume:
        return core.iter_finetune(labelled, out=out, resume=True, device="cpu", **options)
    return core.iter_finetune(
        labelled[:-1], validation=labelled[-1:], out=out, settings=settings, device="cpu", **options
    )


def main():
    from napari_sslseg.core.common.errors import SslsegError
    from napari_sslseg.core.common.events import Message, Step

    kind, out, *rest = sys.argv[1:]
    resume = "resume" in rest
    numbers = [int(word) for word in rest if word.isdigit()]
    try:
        for event in events(kind, Path(out), *numbers, resume=resume):
            if isinstance(event, Step | Message):
                print(event, flush=True)
    except SslsegError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
