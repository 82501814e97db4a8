"""Train on the same scans given in different ways: determinism_process.py DATA OUT {plain,other}.

Pretrains and fine-tunes. With ``other``, files are listed in reverse order, scans are given one by
one in reverse order, and slices are cached on disk.
"""

import os
import sys
from pathlib import Path


def backwards() -> None:
    """Make the operating system list folders in reverse order."""
    listdir, scandir = os.listdir, os.scandir

    class Reversed:
        def __init__(self, path="."):
            with scandir(path) as entries:
                self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

        def __iter__(self):
            return self.entries

        def __next__(self):
            return next(self.entries)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def close(self):
            pass

    os.listdir = lambda path=".": sorted(listdir(path), reverse=True)
    os.scandir = Reversed


def main() -> None:
    data, out, other = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "other"
    if other:
        backwards()
    from napari_sslseg import core

    training = core.Training(steps=6, batch_size=4, seed=5)
    tiny = core.Network.preset("tiny")
    options = {"device": "cpu", "threads": 1, "modality": "MR"}
    scans = data / "images"
    if other:
        scans = sorted(scans.iterdir(), reverse=True)
        options["cache"] = out / "cache"
    core.pretrain(
        scans,
        out=out / "pretrain",
        settings=core.PretrainSettings(network=tiny, training=training),
        **options,
    )
    labelled = core.pair_scans(data / "images", data / "labels")
    core.finetune(
        labelled[::-1] if other else labelled,
        init=out / "pretrain",
        out=out / "finetune",
        settings=core.FinetuneSettings(training=training),
        **options,
    )


if __name__ == "__main__":
    main()
