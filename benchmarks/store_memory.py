"""Peak memory of pretraining from a store on disk, by its number of slices.

Scans of 100 slices of 128×128 pixels are written as files; one process builds the store and
pretrains, a second one opens the existing store and pretrains. The peak is the largest resident
memory of each process, including mapped pages.

Target: 20,000 slices take at most 1.1 times the memory of 2,000.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

CHILD = """
import json, resource, sys, time
from napari_sslseg import core
images, out, cache, steps = sys.argv[1:]
start = time.perf_counter()
settings = core.PretrainSettings(
    network=core.Network.preset("tiny"),
    training=core.Training(steps=int(steps), batch_size=32),
)
run = core.pretrain(images, out=out, settings=settings, cache=cache, device="cpu", overwrite=True)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"peak_kib": peak, "seconds": time.perf_counter() - start}))
"""


def write_scans(folder: Path, n: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(n):
        data = rng.integers(0, 4000, (128, 128, 100), dtype=np.int16)
        nib.save(nib.Nifti1Image(data, np.eye(4)), folder / f"scan{number:03d}.nii")


def measure(slices: int, steps: int, repeats: int) -> list[dict]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scans(folder / "images", slices // 100)
        # The first process builds the store; the peak of the others is a median, since the
        # allocator causes variations of a few per cent.
        for stage in ("build and pretrain", *["pretrain again"] * repeats):
            done = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    CHILD,
                    folder / "images",
                    folder / "run",
                    folder / "cache",
                    str(steps),
                ],
                capture_output=True,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout.splitlines()[-1])
            rows.append({"stage": stage, "slices": slices, **found})
    again = rows[1:]
    middle = {key: statistics.median(row[key] for row in again) for key in ("peak_kib", "seconds")}
    return [rows[0], again[0] | middle]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    few, many = (measure(n, options.steps, options.repeats) for n in (2_000, 20_000))
    print(
        "| stage | slices | peak memory (MiB) | seconds | ratio |\n| --- | --- | --- | --- | --- |"
    )
    for a, b in zip(few, many, strict=True):
        for row in (a, b):
            ratio = f"{row['peak_kib'] / a['peak_kib']:.3f}"
            print(
                f"| {row['stage']} | {row['slices']:,} | {row['peak_kib'] / 1024:.0f} "
                f"| {row['seconds']:.0f} | {ratio} |"
            )
    print("\nTarget: at most 1.1.")


if __name__ == "__main__":
    main()
