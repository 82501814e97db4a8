"""NT-Xent compared with MONAI's ContrastiveLoss: time of forward and backward, and memory.

512 embeddings of length 128 per view, temperature 0.1, alternating; the ratio is the median over
rounds. Memory is the peak of the resident memory of a process that computes the loss once, minus
that before. Targets: at most half of MONAI's time and memory.
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch
from monai.losses import ContrastiveLoss

from napari_sslseg.core.pretext.contrast.losses import nt_xent

N, D, TEMPERATURE = 512, 128, 0.1

MEMORY = """
import sys
import torch
from monai.losses import ContrastiveLoss
from napari_sslseg.core.pretext.contrast.losses import nt_xent
losses = {{"ours": lambda a, b: nt_xent(a, b, {t}), "MONAI": ContrastiveLoss(temperature={t})}}
loss = losses[sys.argv[1]]
def kib(name):
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])
small = [torch.randn(4, {d}, requires_grad=True) for _ in range(2)]
loss(*small).backward()
views = [torch.randn({n}, {d}, requires_grad=True) for _ in range(2)]
before = kib("VmRSS")
loss(*views).backward()
print((kib("VmHWM") - before) / 1024)
"""


def views() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(N, D, generator=generator).requires_grad_() for _ in range(2)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    losses = {
        "ours": lambda a, b: nt_xent(a, b, TEMPERATURE),
        "MONAI": ContrastiveLoss(temperature=TEMPERATURE),
    }
    pair = views()
    values = {name: float(loss(*pair)) for name, loss in losses.items()}
    times: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(options.rounds + 2):
        for name, loss in losses.items():
            start = time.perf_counter()
            loss(*pair).backward()
            times[name].append(time.perf_counter() - start)
    ratio = statistics.median(
        a / b for a, b in zip(times["ours"][2:], times["MONAI"][2:], strict=True)
    )
    code = MEMORY.format(n=N, d=D, t=TEMPERATURE)
    memory = {
        name: float(
            subprocess.run(
                [sys.executable, "-c", code, name], check=True, capture_output=True, text=True
            ).stdout
        )
        for name in losses
    }
    print("| loss | value | median (ms) | memory (MiB) |\n| --- | --- | --- | --- |")
    for name in losses:
        median = 1000 * statistics.median(times[name][2:])
        print(f"| {name} | {values[name]:.5f} | {median:.2f} | {memory[name]:.0f} |")
    print(
        f"\nRatio: time {ratio:.4f}, memory {memory['ours'] / memory['MONAI']:.4f}; "
        "target at most 0.5 each."
    )


if __name__ == "__main__":
    main()
