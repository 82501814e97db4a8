"""Response of the window: event loop, strokes, scans and previews, during a training, and start-up.

All measurements are from a real napari window (``scripts/with-screen.sh`` starts a virtual screen),
each in a separate process:

loop      Delay of the event loop at a timer of 5 ms, for ``--seconds``: in a window without the
          plugin; during a bare thread that trains the same network; during that and a number that
          changes once a second, which redraws the window; and during the pretraining of the
          plugin, with its curve and its pictures. Then the same while strokes are painted.
stroke    From the press of the mouse to the end of the first drawing that shows the paint: on a
          labels layer of napari alone, and in the plugin while it pretrains.
preview   From a change of a setting to the new picture.
switch    From the request for another scan until it is drawn and all background work is over, for
          small and for large scans: in napari alone with new layers, or with new data of the same
          layers; and in the plugin. CPU time is that of all threads.
add       100 scans are added to an empty project, until the first is shown and all thumbnails are
          made.
large     A CT of 512 × 512 × 300 voxels, or that of ``--scan``, is added and shown, with the memory
          of the process.
predict   All scans of a project are predicted with the button.
close     The window is closed during a pretraining, from the answer to the question until the
          project is closed.
dock      From the call that opens the dock widget to its return, in an open window.
start     From the start of the process to a drawn napari window, without the plugin and with it,
          alternating; the median of the differences is the cost.

With ``--save``, each row is appended to ``results/window.jsonl``.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from efficiency.rows import append_row
from window_cases import scans, training
from window_cases.measure import PLUGIN, STEP_NAME, process_events

STARTED = time.time()
RESULTS = Path(__file__).parent / "results" / "window.jsonl"
CASES = (
    "loop", "stroke", "preview", "switch", "add", "large", "predict", "close", "dock", "start",
)  # fmt: skip
LONGEST = ("took", "cpu", "cpu of the main thread", "longest", "longest in cpu")
SHOWN = {
    "loop": ("p50", "p99", "longest", "longest in cpu", "over 40 ms", "causes"),
    "add": (*LONGEST, "% in gaps over 100 ms", "causes"),
    "large": (*LONGEST, "peak MB", "MB", "causes"),
    "predict": (*LONGEST, "% in gaps over 100 ms", "causes"),
}
"""Figures of the cases that measure more than they are about."""


def hide_plugin() -> None:
    """Hide this plugin from napari, as if it were not installed."""
    found = metadata.distributions
    metadata.distributions = lambda **options: (  # type: ignore[assignment]
        item for item in found(**options) if item.metadata["Name"] != PLUGIN
    )


def dock() -> dict[str, Any]:
    import napari

    viewer = napari.Viewer(show=True)
    process_events(1)
    begun = time.perf_counter()
    viewer.window.add_plugin_dock_widget(PLUGIN, STEP_NAME)
    return {"took": (time.perf_counter() - begun) * 1000}


def start(arm: str) -> dict[str, Any]:
    if arm == "without":
        hide_plugin()
    import napari
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer(show=True)
    QApplication.processEvents()
    took = (time.time() - STARTED) * 1000
    viewer.close()
    return {"took": took}


def ask(*arguments: str) -> dict[str, Any]:
    """Measure in a separate process."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


class Rows:
    """Prints rows of figures, and saves them if wanted."""

    def __init__(self, save: str | None) -> None:
        self.state = save

    def row(self, case: str, arm: str, figures: dict[str, Any]) -> None:
        figures = {k: v for k, v in figures.items() if k in SHOWN.get(case, figures)}
        causes = figures.pop("causes", {})
        if self.state is not None:
            numbers = {k: round(v, 1) for k, v in figures.items()}
            line = {"case": case, "arm": arm, "state": self.state, **numbers}
            append_row(RESULTS, {**line, "date": time.strftime("%Y-%m-%d")})
        shown = [f"{k} {v:.1f}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()]
        print(f"{f'{case}, {arm}' if arm else case:<36} {', '.join(shown)}", flush=True)
        for cause, count in causes.items():
            print(f"{'':<38}{count} x {cause}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=10, help="of starts, docks and switches")
    parser.add_argument("--only", choices=CASES, action="append")
    parser.add_argument("--scan", default="", help="file of a large CT")
    parser.add_argument("--save", metavar="STATE", help="save rows, with a word on the code")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--arm", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print("\n" + json.dumps(measure(given)), flush=True)
        os._exit(0)  # Training threads would continue.
    rows = Rows(given.save)
    print("milliseconds")
    for case in given.only or CASES:
        compare(case, given, rows)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Measure one case in this process."""
    arm, _, size = given.arm.partition(" of ")
    shape = scans.LARGE if size == "large scans" else scans.SMALL
    cases: dict[str, Any] = {
        "loop": lambda: training.loop(given.arm, given.seconds),
        "stroke": lambda: training.stroke(given.arm),
        "preview": training.preview,
        "switch": lambda: scans.switch(arm, shape, given.rounds),
        "add": scans.add,
        "large": lambda: scans.large(given.arm, given.scan),
        "predict": scans.predict,
        "close": training.close,
        "dock": dock,
        "start": lambda: start(given.arm),
    }
    result: dict[str, Any] = cases[given.measure]()
    return result


def compare(case: str, given: argparse.Namespace, rows: Rows) -> None:
    """Measure the arms of a case, each in its own process."""
    sizes = ("small scans", "large scans")
    arms = {
        "loop": tuple(training.LOOPS),
        "stroke": ("napari alone", "plugin"),
        "switch": tuple(f"{arm} of {size}" for size in sizes for arm in scans.SWITCH_ARMS),
        "large": ("napari alone", "plugin"),
    }
    if case == "dock":
        took = [ask("--measure=dock")["took"] for _ in range(given.rounds)]
        rows.row("dock", "", {"p50": float(np.median(took)), "longest": max(took)})
    elif case == "start":
        pairs = [
            [ask("--measure=start", f"--arm={arm}")["took"] for arm in ("without", "with")]
            for _ in range(given.rounds + 1)
        ][1:]  # The first one reads files that are not in the cache yet.
        without, with_ = np.median(pairs, axis=0)
        cost = float(np.median(np.diff(pairs, axis=1)))
        rows.row("start", "", {"without": float(without), "with": float(with_), "cost": cost})
    else:
        options = f"--seconds={given.seconds}", f"--rounds={given.rounds}", f"--scan={given.scan}"
        for arm in arms.get(case, ("",)):
            rows.row(case, arm, ask(f"--measure={case}", f"--arm={arm}", *options))


if __name__ == "__main__":
    main()
