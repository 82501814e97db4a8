"""Kill a process that saves labels with SIGKILL at random moments: project_trials.py FOLDER TRIALS.

Each process is forked from this one, which has imported the slow modules.
Prints one line of JSON for each trial.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from napari_sslseg.core.project.project import Project

NAME = "scan"


def save_repeatedly(folder, out):
    """Save labels of one value after another; write a line to ``out`` before and after each."""
    with Project.open(folder) as project:
        shape = project.entry(NAME).shape
        first = project.recall("value", 0) + 1
        for value in range(first, first + 10_000):
            os.write(out, f"begin {value}\n".encode())
            project.save_labels(NAME, np.full(shape, value % 200 + 1, np.uint8))
            project.mark_done(NAME, [value % shape[0]])
            project.remember("value", value)
            os.write(out, f"end {value}\n".encode())


def trial(folder, seconds):
    """Kill a saving process after some seconds, and check the project that it left."""
    inside, out = os.pipe()
    child = os.fork()
    if not child:
        os.close(inside)
        try:
            save_repeatedly(folder, out)
        finally:
            os._exit(1)
    os.close(out)
    output = b""
    while b"end" not in output:  # Until the first save is complete.
        output += os.read(inside, 4096)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while block := os.read(inside, 4096):
        output += block
    os.close(inside)
    lines = output.decode().split("\n")[:-1]
    begun = max(int(line.split()[1]) for line in lines if line.startswith("begin"))
    ended = max(int(line.split()[1]) for line in lines if line.startswith("end"))
    left = [path.name for path in folder.rglob(".*")]
    with Project.open(folder) as project:
        values = np.unique(project.labels(NAME).data).tolist()
        remembered = project.recall("value")
        problems = project.problems()
    after = [path.name for path in folder.rglob(".*")]
    return {
        "whole": len(values) == 1,
        "labels": values[0] in (begun % 200 + 1, ended % 200 + 1),
        "record": remembered in (begun, ended),
        "sound": not problems,
        "tidy": not after,
        "left": len(left),
        "saves": ended,
    }


def main():
    folder, trials = Path(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(trials)
    for _ in range(trials):
        print(json.dumps(trial(folder, rng.uniform(0, 0.12))), flush=True)


if __name__ == "__main__":
    main()
