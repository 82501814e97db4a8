"""Compare pretraining and other methods with 1, 2, 4, 8 or all labelled subjects.

    python benchmarks/label_efficiency.py run --part validation --arms scratch 'mae/*' --jobs 2
    python benchmarks/label_efficiency.py table --part validation
    python benchmarks/label_efficiency.py curves --part validation
    python benchmarks/label_efficiency.py arms

A cell is one arm on one data set with one draw of labelled subjects: it is fitted, and each subject
of the validation or test part is scored. Splits are by patient and fixed in
``efficiency/splits.json``. Scans of all training subjects are used without labels; each pretraining
on them is run once per data set and seed. No arm is trained on validation subjects; settings are
chosen by their scores, and test subjects are evaluated once for each finished arm. Finished cells
are lines in ``results/label_efficiency.jsonl`` and are not computed again.

The comparison methods need scikit-learn and nnunetv2 (extra ``bench``). Without a command, the
results are printed as tables.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from efficiency.rows import RESULTS, read_rows
from efficiency.splits import SPLITS, make_splits, read_splits


def main() -> int:
    options = _parser().parse_args(sys.argv[1:] or ["table"])
    commands = {"run": run, "table": show_tables, "curves": curves, "arms": arms, "split": split}
    return commands[options.command](options)


def run(options: argparse.Namespace) -> int:
    from efficiency.arms import chosen_arms
    from efficiency.cells import Cell, Length, plan
    from efficiency.place import Place
    from efficiency.workers import run_cells

    known = read_splits(options.splits)
    data = []
    for name in options.datasets or known:
        if (options.data / name).is_dir():
            data.append(known[name])
        else:
            print(f"No {name} in {options.data}; give its folder with --data.")
    length = Length(
        options.network, options.steps, options.pretrain_steps, options.slices, options.spacing
    )
    chosen = chosen_arms(options.arms)
    asked = (data, chosen, options.labelled, options.draws, options.seeds, options.part, length)
    cells = list(plan(*asked))
    seen = {row["hash"] for row in read_rows(options.results)}
    done = [cell for cell in cells if cell.hash in seen]
    left = [cell for cell in cells if cell.hash not in seen]
    if options.part == "test":
        for cell in done:
            print(f"{cell}: the test subjects were evaluated before ({cell.hash}); skipped.")
    elif done:
        print(f"{len(done)} cells are already done.")
    count = 0

    def report(cell: Cell, row: dict | None) -> None:
        nonlocal count
        count += 1
        text = "failed, see above"
        if row is not None:
            seconds = row["seconds"]
            text = f"Dice {row['mean_dice']:.3f}, " if row["mean_dice"] is not None else ""
            text += f"{seconds['finetuning']:.0f} s after {seconds['pretraining']:.0f} s"
        print(f"[{count}/{len(left)}] {cell}: {text}", flush=True)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = options.threads or max(1, (cores or 1) // options.jobs)
    place = Place(options.data, options.out, threads, options.device)
    try:
        failed = run_cells(left, place, options.results, options.jobs, report)
    except KeyboardInterrupt:
        print("Stopped; finished cells are saved. Run the same command again to continue.")
        return 130
    if failed:
        print(f"{len(failed)} cells failed: {'; '.join(map(str, failed))}.")
    return 1 if failed else 0


def _rows(options: argparse.Namespace, part: str) -> list[dict]:
    from efficiency.arms import ARMS, chosen_arms
    from efficiency.tables import latest

    names = [arm.name for arm in chosen_arms(options.arms)]
    lengths = ("network", "steps", "pretrain_steps", "slices", "spacing")
    wanted = {name: getattr(options, name) for name in lengths}
    rows = latest(read_rows(options.results), part=part, **wanted)
    # Arms that no longer exist are shown as well, unless others are asked for.
    rows = [row for row in rows if row["arm"] in names or row["arm"] not in ARMS]
    order = {name: number for number, name in enumerate(ARMS)}
    rows.sort(key=lambda row: order.get(row["arm"], len(order)))
    return [row for row in rows if not options.datasets or row["dataset"] in options.datasets]


def show_tables(options: argparse.Namespace) -> int:
    from efficiency.tables import table

    for part in [options.part] if options.part else ["validation", "test"]:
        rows = _rows(options, part)
        text = table(rows) if rows else f"No row with these settings in {options.results}."
        print(f"{part.capitalize()} subjects\n\n{text}\n")
    return 0


def curves(options: argparse.Namespace) -> int:
    from efficiency.curves import draw_curves

    rows = _rows(options, options.part)
    if not rows:
        print(f"No row with these settings in {options.results}.")
        return 1
    path = options.picture or options.out / f"curves-{options.part}.png"
    draw_curves(rows, path)
    print(f"Drawn: {path}")
    return 0


def arms(options: argparse.Namespace) -> int:
    from efficiency.arms import ARMS

    print("\n".join(ARMS))
    return 0


def split(options: argparse.Namespace) -> int:
    options.splits.write_text(json.dumps(make_splits(options.data), indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    named = os.environ.get("NAPARI_SSLSEG_DATA", "shared/data")
    common.add_argument("--data", type=Path, default=Path(named))
    common.add_argument("--splits", type=Path, default=SPLITS)
    common.add_argument("--results", type=Path, default=RESULTS)
    common.add_argument("--out", type=Path, default=Path("demo-output/label-efficiency"))
    common.add_argument("--datasets", nargs="*", default=[], help="all if not given")
    common.add_argument("--arms", nargs="*", default=["*"], help="names or patterns")
    common.add_argument("--network", default="small")
    common.add_argument("--steps", type=int, default=1000, help="of each fine-tuning")
    common.add_argument("--pretrain-steps", type=int, default=3000, help="of each stage")
    common.add_argument(
        "--slices", type=int, default=0, help="labelled slices of each labelled scan; 0 for all"
    )
    common.add_argument(
        "--spacing", type=float, default=0, help="of the pixels in mm; 0 for that of the data set"
    )
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    parts = ["validation", "test"]
    running = commands.add_parser("run", parents=[common])
    running.add_argument("--part", choices=parts, required=True)
    running.add_argument("--labelled", nargs="*", type=_count, default=[1, 2, 4, 8, "all"])
    running.add_argument("--draws", type=int, default=3)
    running.add_argument("--seeds", nargs="*", type=int, default=[0])
    running.add_argument("--jobs", type=int, default=2)
    running.add_argument(
        "--threads", type=int, help="per job; by default all cores are divided among the jobs"
    )
    running.add_argument("--device", default="cpu")
    commands.add_parser("table", parents=[common]).add_argument("--part", choices=parts)
    drawing = commands.add_parser("curves", parents=[common])
    drawing.add_argument("--part", choices=parts, default="validation")
    drawing.add_argument("--picture", type=Path, help="file to draw to")
    commands.add_parser("arms", parents=[common])
    commands.add_parser("split", parents=[common])
    return parser


def _count(text: str) -> int | str:
    return text if text == "all" else int(text)


if __name__ == "__main__":
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output, such as head, has ended. Python would report the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
