"""Compare strategies of fine-tuning with two labelled subjects, on two public data sets.

One pretraining per data set, on the scans of all subjects except validation subjects. Then, for
each draw of two labelled subjects, the same number of steps with each strategy, from the encoder,
from encoder and decoder, and from scratch; all with the same subjects, slices and seed. The score
is the mean Dice over classes, averaged over the scans of each validation subject and then over
subjects. The deviation is over draws; it does not include the variation of the pretraining, which
is run once.

Splits are by subject. Validation subjects are not used for training but to choose settings: a fifth
of the hippocampus subjects and the 15 test patients of the Sunnybrook repository are reserved for
results to be published.

Finished rows are saved in ``rows.jsonl`` in the output folder and not computed again.
"""

import argparse
import csv
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_sslseg import core
from napari_sslseg.core.scans.labelled import LabelledScan, scan_subject

STRATEGIES = ("whole", "sawtooth", "freeze-unfreeze", "layer-decay", "frozen-encoder")
TRANSFERS = ("encoder", "encoder+decoder")
ARMS = (("scratch", "whole"), *((t, s) for t in TRANSFERS for s in STRATEGIES))
REFERENCE = ("encoder", "whole")
# The heart is small in its slices, so coarser pixels of their middle are sufficient.
PREPROCESSING = {
    "msd_hippocampus": core.Preprocessing(size=(48, 64)),
    "sunnybrook_lv": core.Preprocessing(spacing=3.75, size=(64, 64)),
}
MOST_PRETRAINED = 60
"""Subjects in the pretraining; a few hundred steps could hardly use more."""


def subjects_of(folder: Path, pairs: list[LabelledScan]) -> tuple[list[str], list[str]]:
    """Subjects for training and for validation; a third part is not used."""
    subjects = sorted({scan_subject(pair) for pair in pairs})
    shares = {"training": 0.6, "validation": 0.2, "left alone": 0.2}
    if (folder / "index.csv").is_file():
        rows = csv.DictReader((folder / "index.csv").read_text().splitlines())
        patients = {row["patient"] for row in rows if row["repo_split"] == "train"}
        subjects = [s for s in subjects if s in patients]
        assert len(subjects) == len(patients)
        shares = {"training": 0.6, "validation": 0.4}
    parts = core.split_subjects(subjects, shares, 0)
    return parts["training"], parts["validation"]


def dice(run: core.Run, pairs: list[LabelledScan]) -> float:
    """Mean over subjects of the mean over their scans and classes."""
    scores: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        scan, truth = pair.load()
        found = core.predict(run, scan, device="cpu").labels
        for value in run.record["classes"]:
            inside = ((found == value) & (truth.data == value)).sum()
            total = (found == value).sum() + (truth.data == value).sum()
            scores[scan_subject(pair)].append(2 * inside / total if total else 1.0)
    return float(np.mean([np.mean(values) for values in scores.values()]))


def rows(name: str, folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the rows of one data set, draw by draw; existing ones first."""
    out = options.out / name
    out.mkdir(parents=True, exist_ok=True)
    path = out / "rows.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    asked = {"network": options.network, "task": options.task, "labelled": options.labelled}
    asked |= {"steps": options.steps, "pretrain_steps": options.pretrain_steps}
    done = [row for row in done if all(row[key] == value for key, value in asked.items())]
    yield from done
    pairs = core.pair_scans(folder / "images", folder / "labels")
    pool, apart = subjects_of(folder, pairs)
    validation = [pair for pair in pairs if scan_subject(pair) in apart[: options.validation]]
    pretrained = out / f"pretrained-{options.task}-{options.network}-{options.pretrain_steps}"
    common: dict[str, Any] = {
        "network": core.Network.preset(options.network),
        "preprocessing": PREPROCESSING[name],
    }
    if not (pretrained / "last.safetensors").exists():
        size = PREPROCESSING[name].size
        scans = [pair.scan for pair in pairs if scan_subject(pair) in pool[:MOST_PRETRAINED]]
        training = core.Training(steps=options.pretrain_steps, batch_size=options.batch)
        settings = core.PretrainSettings(**common, training=training, validation_share=0)
        from napari_sslseg.core.settings.pretext.registry import make_task

        task = make_task(options.task, size)
        core.pretrain(scans, task, out=pretrained, settings=settings, device="cpu", overwrite=True)
    known = {(row["draw"], row["transfer"], row["strategy"]) for row in done}
    for draw in range(options.draws):
        order = np.random.default_rng([7, draw]).permutation(len(pool))
        chosen = {pool[i] for i in order[: options.labelled]}
        labelled = [pair for pair in pairs if scan_subject(pair) in chosen]
        for transfer, strategy in ARMS:
            if (draw, transfer, strategy) in known:
                continue
            scratch = transfer == "scratch"
            start = time.perf_counter()
            training = core.Training(
                steps=options.steps, batch_size=options.batch, gradient_clip=12.0, seed=draw
            )
            run = core.finetune(
                labelled,
                init="scratch" if scratch else pretrained,
                out=out / "run",
                settings=core.FinetuneSettings(
                    training=training,
                    strategy=strategy,
                    # Set in all arms; otherwise the canvas would depend on the labelled scans.
                    **common,
                    **({} if scratch else {"transfer": transfer}),
                ),
                device="cpu",
                overwrite=True,
            )
            trained = time.perf_counter() - start
            row = {
                **asked,
                "data": name,
                "draw": draw,
                "transfer": transfer,
                "strategy": strategy,
                "dice": dice(run, validation),
                "subjects": len({scan_subject(pair) for pair in validation}),
                "seconds": trained,
            }
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            yield row


def table(found: list[dict[str, Any]]) -> str:
    """Mean ± standard deviation over draws, and of the difference from the reference."""
    values: dict[tuple[str, ...], dict[int, float]] = defaultdict(dict)
    seconds = defaultdict(list)
    for row in found:
        key = (row["data"], row["transfer"], row["strategy"])
        values[key][row["draw"]] = row["dice"]
        seconds[key].append(row["seconds"])
    head = ("data", "start", "strategy", "Dice", "difference from encoder, whole", "n", "time")
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name in PREPROCESSING:
        base = values[(name, *REFERENCE)]
        for arm in ARMS:
            mine = values[(name, *arm)]
            if not mine:
                continue
            pairs = [mine[draw] - base[draw] for draw in mine if draw in base]
            gap = "–" if arm == REFERENCE or not pairs else spread(pairs, "+.3f")
            usual = np.mean(seconds[(name, *REFERENCE)]) if base else np.nan
            time_share = f"{np.mean(seconds[(name, *arm)]) / usual:.2f}"
            dices = spread(list(mine.values()), ".3f")
            lines.append(
                f"| {name} | {' | '.join(arm)} | {dices} | {gap} | {len(mine)} | {time_share} |"
            )
    return "\n".join(lines)


def spread(values: list[float], form: str) -> str:
    """Mean ± sample standard deviation."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else np.nan
    return f"{np.mean(values):{form}} ± {deviation:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    named = os.environ.get("NAPARI_SSLSEG_DATA", "shared/data")
    parser.add_argument("--data", type=Path, default=Path(named))
    parser.add_argument("--out", type=Path, default=Path("demo-output/strategies"))
    parser.add_argument("--datasets", nargs="*", default=list(PREPROCESSING))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--labelled", type=int, default=2, help="subjects")
    parser.add_argument("--validation", type=int, default=12, help="subjects")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--pretrain-steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--task", default="mae")
    parser.add_argument("--network", default="small")
    options = parser.parse_args()
    found = []
    for name in options.datasets:
        if not (options.data / name).is_dir():
            print(f"No {name} in {options.data}; say with --data where it is.")
            continue
        for row in rows(name, options.data / name, options):
            found.append(row)
            print(json.dumps(row), flush=True)
    if found:
        print(table(found))
        print(f"\nThreads: {torch.get_num_threads()}; torch {torch.__version__}.")


if __name__ == "__main__":
    main()
