"""What a process reports as saved is on the disk, also after a power cut."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_sslseg.core.common.atomic import PREFIX
from paths import HELPERS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads names of files in /proc")


def trace(what, folder):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", HELPERS / "trace_syncs.py", what, folder],
        capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(steps):
    """Check that files are synced before they are renamed, and folders before it is said."""
    renamed = 0
    for number, step in enumerate(steps):
        ends = [k for k in range(number, len(steps)) if steps[k][0] == "said"]
        later = steps[number : min(ends, default=len(steps))]
        if step[0] == "rename":
            renamed += 1
            _, source, target = step
            assert ["fsync", source] in steps[:number], step
            assert ["fsync", str(Path(target).parent)] in later, step
        elif step[0] == "mkdir" and PREFIX not in Path(step[1]).name:
            assert ["fsync", str(Path(step[1]).parent)] in later, step
    return renamed


def test_a_training(tmp_path):
    steps = trace("run", tmp_path.resolve())
    assert check(steps) > 10
    # The history, too, has all that was said about a saved state.
    history, last = ["fsync", str(tmp_path.resolve() / "run" / "events.jsonl")], 0
    for number, step in enumerate(steps):
        if step[0] == "said":
            assert history in steps[last:number], step
            last = number
    # Of preprocessed slices, the files and the folder.
    (store,) = (
        step
        for step in steps
        if step[0] == "rename" and "cache" in step[2] and "." not in Path(step[2]).name
    )
    before = steps[: steps.index(store)]
    for name in ("images.raw", "labels.raw", "index.json"):
        assert ["fsync", f"{store[1]}/{name}"] in before


def test_a_project(tmp_path):
    steps = trace("project", tmp_path.resolve())
    assert check(steps) >= 8
