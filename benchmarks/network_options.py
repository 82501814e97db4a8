"""Memory layout, half precision, compilation and optimisers, compared with the plain step.

One step is forward, backward and Adam on one constant batch. All variants of a network alternate in
one process, each round starting with another one; the ratio is the median over rounds of a
variant's time and that of the plain step in the same round, so below 1 is faster. The time of
compiling is not included but reported separately. Optimisers are compared without the network, on
the gradients of the small network.

If other programs use the machine, ``--threads 1`` and ``--cpu-time`` (CPU time of the process) give
more stable results.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from unittest.mock import patch

import torch
from torch import Tensor, nn

from napari_sslseg.core.networks import unet2d
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.settings.networks import (
    Dense3dNetwork,
    DynUNet2dNetwork,
    DynUNet3dNetwork,
    Network,
    UmapathyNetwork,
)

CASES = {
    "tiny": (Network.preset("tiny"), 16, (128, 128)),
    "small": (Network.preset("small"), 16, (128, 128)),
    "umapathy": (UmapathyNetwork(), 2, (128, 128)),
    "dynunet2d": (DynUNet2dNetwork(), 4, (128, 128)),
    "dense3d": (Dense3dNetwork(), 2, (32, 48, 48)),
    "dynunet3d": (DynUNet3dNetwork(widths=(8, 16, 32, 64)), 2, (32, 48, 48)),
}
VARIANTS = ("as it is", "PyTorch's layout", "channels-last weights", "bf16", "compile")
OPTIMIZERS = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def make_step(model: nn.Module, images: Tensor, variant: str) -> Callable[[], None]:
    """A step of a copy of the model."""
    model = copy.deepcopy(model)
    if variant == "channels-last weights":
        form = torch.channels_last if images.ndim == 4 else torch.channels_last_3d
        model.to(memory_format=form)
    if variant == "compile":
        model.compile(dynamic=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def conditions() -> AbstractContextManager:
        if variant == "bf16":
            return torch.autocast("cpu", dtype=torch.bfloat16)
        if variant == "PyTorch's layout":
            return patch.object(unet2d, "fast_layout", lambda features: features)
        return nullcontext()

    def step() -> None:
        with conditions():
            loss = model(images).float().square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def ratios(
    steps: dict[str, Callable[[], None]], rounds: int, clock: Callable[[], float]
) -> dict[str, tuple[float, float]]:
    """Median time and median ratio to the first, by name."""
    names = list(steps)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = clock()
            steps[name]()
            times[name].append(clock() - start)
    first = times[names[0]]
    return {
        name: (
            statistics.median(found),
            statistics.median(a / b for a, b in zip(found, first, strict=True)),
        )
        for name, found in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--networks", nargs="*", default=list(CASES))
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    if options.threads:
        torch.set_num_threads(options.threads)
    print("| network | images | option | step (ms) | ratio | to the first result (s) |")
    print("| --- | --- | --- | ---: | ---: | ---: |", flush=True)
    for name in options.networks:
        network, batch, size = CASES[name]
        torch.manual_seed(0)
        model, images = make_network(network, 1, 3), torch.randn(batch, 1, *size)
        steps, firsts = {}, {}
        for variant in VARIANTS:
            if variant == "compile" and options.no_compile:
                continue
            if variant == "PyTorch's layout" and network.kind != "unet2d":
                continue  # no other network chooses one
            steps[variant] = make_step(model, images, variant)
            start = time.perf_counter()
            steps[variant]()
            firsts[variant] = time.perf_counter() - start
        for variant, (seconds, ratio) in ratios(steps, options.rounds, clock).items():
            first = f"{firsts[variant]:.0f}" if variant == "compile" else ""
            sides = " × ".join(map(str, (batch, *size)))
            row = [name, sides, variant, f"{1000 * seconds:.0f}", f"{ratio:.2f}", first]
            print(f"| {' | '.join(row)} |", flush=True)
        torch.compiler.reset()
    model = make_network(Network.preset("small"), 1, 3)
    model(torch.randn(2, 1, 64, 64)).square().mean().backward()
    found = ratios(
        {n: torch.optim.Adam(model.parameters(), **o).step for n, o in OPTIMIZERS.items()},
        20 * options.rounds,
        clock,
    )
    print("\n| Adam | step (ms) | ratio |\n| --- | ---: | ---: |")
    for name, (seconds, ratio) in found.items():
        print(f"| {name} | {1000 * seconds:.2f} | {ratio:.2f} |")
    print(f"\nThreads: {torch.get_num_threads()}; torch {torch.__version__}.")


if __name__ == "__main__":
    main()
