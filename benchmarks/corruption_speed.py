"""Time to corrupt a batch of slices: our patch swap compared with TorchIO's and MONAI's.

All corrupt about a quarter of each of 32 slices of 256 × 256 pixels with patches of 32 × 32, on
the CPU, with the same number of threads, without changing the batch in place. The others take one
image per call, so they run in a loop over the batch and their results are stacked:

- ours: draws one of 100 precomputed Poisson-disc masks, its symmetry and its pairs for each image,
  then swaps disjoint pairs, at the same places in all channels. Sampling is included.
  The 100 masks are made once before training, which is timed separately.
- TorchIO ``RandomSwap``: swaps pairs at uniform places, again at each call. Patches may overlap,
  even those of a pair, so its number of swaps is set by the area measured over many draws.
- MONAI ``RandCoarseShuffle``: shuffles the pixels *inside* each patch without swapping patches, the
  most similar method in MONAI. Patches may overlap; their number is set as for TorchIO. It works in
  place, so each image is cloned first, since the others do not change theirs.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
import torchio
from monai.transforms import RandCoarseShuffle
from torch import Tensor

from napari_sslseg.core.pretext.corruptions.patch_swap import PatchSwap

BATCH, CHANNELS, SIZE, PATCH, AREA = 32, 1, 256, 32, 0.25
CALLS = 20
TARGETS = {"TorchIO RandomSwap": 20, "MONAI RandCoarseShuffle": 10}

Corrupt = Callable[[Tensor], Tensor]


def ours() -> Corrupt:
    swap = PatchSwap((SIZE, SIZE), PATCH, "poisson-disc", AREA)
    generator = torch.Generator().manual_seed(0)
    return lambda images: swap.apply(images, swap.sample(len(images), generator))


def torchio_swap(swaps: int) -> Corrupt:
    transform = torchio.RandomSwap(patch_size=(PATCH, PATCH, 1), num_iterations=swaps)
    # TorchIO takes (C, H, W, depth).
    return lambda images: torch.stack([transform(image[..., None])[..., 0] for image in images])


def monai_shuffle(patches: int) -> Corrupt:
    transform = RandCoarseShuffle(holes=patches, spatial_size=PATCH, prob=1.0)
    transform.set_random_state(0)
    return lambda images: torch.stack(
        [torch.as_tensor(transform(image.clone())) for image in images]
    )


def corrupted_area(corrupt: Corrupt, images: Tensor) -> float:
    """Fraction of the pixels that change; all values in an image must be different."""
    return float((corrupt(images) != images).float().mean())


def nearest_to_area(make: Callable[[int], Corrupt], images: Tensor) -> int:
    """Number of patches or swaps that corrupts the area most nearly, but not more than ours."""
    count = 1
    while corrupted_area(make(count + 1), images) <= AREA:
        count += 1
    return count


def run(repeats: int = 30, threads: int = 2) -> list[dict[str, float | str]]:
    """Time all three alternately, so that other load affects all; in milliseconds."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    images = torch.randperm(BATCH * CHANNELS * SIZE**2).float().view(BATCH, CHANNELS, SIZE, SIZE)
    swaps = nearest_to_area(torchio_swap, images)
    patches = nearest_to_area(monai_shuffle, images)
    settings = {
        "ours": (ours(), "Poisson-disc pairs"),
        "TorchIO RandomSwap": (torchio_swap(swaps), f"{swaps} swaps"),
        "MONAI RandCoarseShuffle": (monai_shuffle(patches), f"{patches} patches, shuffled inside"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    for repeat in range(repeats + 3):
        for name, (corrupt, _) in settings.items():
            # Ours takes one or two milliseconds, so many calls are timed together, as in a
            # training. A single call would measure the start of threads.
            calls = CALLS if name == "ours" else 1
            start = time.perf_counter()
            for _ in range(calls):
                corrupt(images)
            if repeat >= 3:  # after a warm-up
                seconds[name].append((time.perf_counter() - start) / calls)
    rows: list[dict[str, float | str]] = []
    for name, (corrupt, how) in settings.items():
        median = statistics.median(seconds[name])
        rows.append(
            {
                "name": name,
                "how": how,
                "area": corrupted_area(corrupt, images),
                "milliseconds": 1e3 * median,
                "fastest": 1e3 * min(seconds[name]),
                "ratio": median / statistics.median(seconds["ours"]),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    start = time.perf_counter()
    PatchSwap((SIZE, SIZE), PATCH, "poisson-disc", AREA)
    precomputing = time.perf_counter() - start
    rows = run(arguments.repeats, arguments.threads)
    print(
        f"{BATCH} slices of {SIZE} × {SIZE}, patches of {PATCH} × {PATCH}, "
        f"{arguments.threads} of {os.cpu_count()} CPU threads, {arguments.repeats} repeats, "
        f"torch {torch.__version__}, TorchIO {torchio.__version__}\n"
    )
    print("| | set to | area | median (ms) | fastest (ms) | times ours | target |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        target = TARGETS.get(str(row["name"]))
        print(
            f"| {row['name']} | {row['how']} | {row['area']:.3f} | {row['milliseconds']:.2f} "
            f"| {row['fastest']:.2f} | {row['ratio']:.1f} | {f'≥ {target}' if target else ''} |"
        )
    print(f"\nMaking our 100 masks, once before training: {precomputing:.2f} s.")


if __name__ == "__main__":
    main()
