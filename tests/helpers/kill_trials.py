"""Kill tiny runs with SIGKILL at random moments and resume: kill_trials.py KIND TRIALS FOLDER.

Each run is a separate process, forked from this one, which has imported the slow modules.
Prints one line of JSON for each trial.
"""

import json
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

import torch

import napari_sslseg.core.networks.build
import napari_sslseg.core.pretext.restoration.patch_task
import napari_sslseg.core.stages.finetune
import napari_sslseg.core.stages.pretrain
import napari_sslseg.core.training.train  # noqa: F401
from training_process import events

STEPS = 24
COMPARED = ("last.safetensors", "best.safetensors", "metrics.csv")


def start_run(kind, out, *, resume=False):
    """Start a run in a new process and return its process number."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        with (out.parent / f"{out.name}.txt").open("a") as file:
            for event in events(kind, out, STEPS, resume):
                print(event, file=file, flush=True)
        code = 0
    finally:
        os._exit(code)


def complete_run(kind, out, **options):
    """Complete a run and return the seconds that it took."""
    begun = time.monotonic()
    _, status = os.waitpid(start_run(kind, out, **options), 0)
    assert status == 0, (out.parent / f"{out.name}.txt").read_text()
    return time.monotonic() - begun


def wait(step, seconds, output):
    """Wait until a step is reported, then for some seconds."""
    while step and f"Step(step={step}," not in (output.read_text() if output.exists() else ""):
        time.sleep(0.002)
    time.sleep(seconds)


def trial(kind, out, moment):
    """Kill a run at a moment, then resume it to the end."""
    number = start_run(kind, out)
    moment(out.parent / f"{out.name}.txt")
    os.kill(number, signal.SIGKILL)
    _, status = os.waitpid(number, 0)
    states = sorted(path.stem for path in (out / "states").glob("*.safetensors"))
    begun = (out / "run.json").exists()
    complete_run(kind, out, resume=begun)
    return {
        "killed": os.WIFSIGNALED(status),
        "begun": begun,
        "states": states,
    }


def main():
    kind, trials, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    first = folder / "whole"
    length = complete_run(kind, first)
    rng = random.Random(trials)
    for number in range(1, trials + 1):
        out = folder / str(number)
        # Every fourth run is killed at any time, also before the first step; the others during a
        # step or a save.
        step = rng.randrange(1, STEPS - 3) if number % 4 else None
        moment = partial(wait, step, rng.uniform(0, 0.1 if step else length))
        found = trial(kind, out, moment)
        found["same"] = {
            name: (first / name).read_bytes() == (out / name).read_bytes() for name in COMPARED
        }
        found["left"] = [path.name for path in out.rglob(".*")] + [
            path.name for path in out.glob("run.lock")
        ]
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
