"""The label-efficiency benchmark: its cells, rows, tables and splits."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise

import numpy as np
import pytest

from efficiency.arms import ARMS, chosen_arms
from efficiency.cells import Cell, Length, plan
from efficiency.curves import draw_curves
from efficiency.few_slices import with_few_slices
from efficiency.rows import append_row, read_rows
from efficiency.splits import ABOUT, PARTS, SPLITS, DataSet, make_splits, read_splits
from efficiency.tables import differences, gain_p, holm, latest, table
from napari_sslseg import core
from napari_sslseg.core.demo.phantom.patient import make_patient

SUBJECTS = tuple(f"s{i:02}" for i in range(16))
DATA = DataSet(
    "phantoms", core.Preprocessing(size=(48, 64)), (1, 2), SUBJECTS[:10], SUBJECTS[10:13],
    SUBJECTS[13:],
)  # fmt: skip


def cell(arm="mae/encoder", data=DATA, **changes):
    values = {"labelled": 2, "draw": 0, "seed": 0, "part": "validation"} | changes
    return Cell(data, ARMS[arm], **values)


def test_the_hash_of_a_cell_depends_on_its_settings_only():
    again = dataclasses.replace(DATA, preprocessing=core.Preprocessing(size=(48, 64)))
    assert cell().hash == cell(data=again).hash
    others = [
        cell("mae/encoder+decoder"),
        cell("spark/encoder"),
        cell("scratch"),
        cell(labelled=4),
        cell(draw=1),
        cell(seed=1),
        cell(part="test"),
        cell(length=Length(steps=999)),
        cell(length=Length(pretrain_steps=2999)),
        cell(length=Length("tiny")),
        cell(length=Length(slices=3)),
        cell(data=dataclasses.replace(DATA, classes=(1,))),
        cell(data=dataclasses.replace(DATA, validation=SUBJECTS[10:12])),
        cell(data=dataclasses.replace(DATA, preprocessing=core.Preprocessing(size=(64, 64)))),
    ]
    assert len({one.hash for one in [cell(), *others]}) == 1 + len(others)


def test_arms_share_a_pretraining_and_its_first_stage():
    frozen, two = cell("mae/frozen-encoder", labelled="all"), "context-restoration+global-contrast"
    assert frozen.stage_hashes() == cell(draw=3, part="test").stage_hashes()
    assert cell(seed=1).stage_hashes() != cell().stage_hashes()
    first = cell("context-restoration/encoder").stage_hashes()
    both = cell(f"{two}/encoder").stage_hashes()
    assert len(both) == 2
    assert both[:1] == first
    assert not cell("scratch").stage_hashes()


def test_draws_of_few_subjects_are_subsets_of_those_of_more():
    sizes = (1, 2, 4, 8)
    drawn = [set(cell(labelled=n, draw=2).subjects) for n in sizes]
    assert [len(one) for one in drawn] == list(sizes)
    assert all(few < more for few, more in pairwise(drawn))
    assert set(cell(labelled="all").subjects) == set(DATA.training)
    assert len({cell(draw=draw).subjects for draw in range(5)}) > 1


def test_all_arms_have_a_draw_before_the_next_draw():
    arms = chosen_arms(["scratch", "self-training", "mae/enc*"])
    cells = list(plan([DATA], arms, [1, 2, 10, "all"], 2, [0], "validation", Length()))
    assert [c.draw for c in cells] == sorted(c.draw for c in cells)
    # There are ten subjects in total.
    assert {c.labelled for c in cells} == {1, 2, "all"}
    with pytest.raises(KeyError, match="mea"):
        chosen_arms(["scratch", "mea/*"])


def test_nothing_is_unlabelled_if_all_subjects_are_labelled():
    few, every = cell("self-training"), cell("self-training", labelled="all")
    assert few.unlabelled
    assert few.finetuning().self_training is not None
    assert not every.unlabelled
    assert every.finetuning().self_training is None
    assert every.finetuning().average_decay == few.finetuning().average_decay


def test_scans_with_few_labelled_slices_are_also_used_without_labels():
    some = cell("self-training", labelled="all", length=Length(slices=3))
    assert some.unlabelled
    assert some.finetuning().self_training is not None
    assert some.key["slices"] == 3
    arms, few = chosen_arms(["scratch", "nnunet"]), Length(slices=3)
    cells = list(plan([DATA], arms, [1], 1, [0], "validation", few))
    assert [c.arm.name for c in cells] == ["scratch"]


def test_few_slices_are_evenly_spaced_among_those_with_a_structure():
    scan, truth = make_patient(3, "MR", (20, 32, 32), (10.0, 10.0, 10.0))
    labels = np.zeros_like(truth.data)
    labels[5:14, 3, 3] = 1
    labels[15, 3, 3] = 4  # A class that is not requested.
    pair = core.LabelledScan(scan, dataclasses.replace(truth, data=labels))
    empty = core.LabelledScan(scan, dataclasses.replace(truth, data=np.zeros_like(labels)))

    def chosen(count, plane="axial"):
        return [p.annotated for p in with_few_slices([empty, pair], count, (1, 2), plane)]

    # Of nine slices: the middle one; the middles of thirds; all nine.
    assert chosen(1) == [(9,)]
    assert chosen(3) == [(6, 9, 12)]
    assert chosen(9) == chosen(20) == [tuple(range(5, 14))]
    assert chosen(2, "coronal") == [(3,)]


def test_the_recipe_uses_the_neighbouring_slices_of_the_data_set():
    near = dataclasses.replace(DATA, neighbours=1)
    assert cell("recipe").preprocessing.neighbours == 0
    assert cell("recipe", data=near).preprocessing.neighbours == 1
    assert cell("scratch", data=near).preprocessing.neighbours == 0
    assert cell("scratch", data=near).hash == cell("scratch").hash
    assert cell("recipe", data=near).hash != cell("recipe").hash


def test_rows_are_read_despite_an_incomplete_last_line(tmp_path):
    path = tmp_path / "results" / "rows.jsonl"
    assert read_rows(path) == []
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: append_row(path, {"n": n, "long": "x" * 9000}), range(40)))
    assert sorted(row["n"] for row in read_rows(path)) == list(range(40))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:5000])
    assert len(read_rows(path)) == 40
    append_row(path, {"n": 40})
    assert [row["n"] for row in read_rows(path)][-1] == 40
    assert path.read_bytes() == whole + b'{"n": 40}\n'
    path.write_bytes(b"{oops\n" + whole)
    with pytest.raises(ValueError, match="Line 1 of"):
        read_rows(path)


def row(arm, dice, draw=0, **fields):
    """Return a row whose subjects have these Dice."""
    scores = {
        f"s{i}": {"dice": {"1": d}, "mean_dice": d, "hd95_mm": {"1": 2.0}, "hd95_undefined": 0}
        for i, d in enumerate(dice)
    }
    values = {"dataset": "d", "arm": arm, "labelled": 1, "draw": draw, "seed": 0, "part": "test"}
    values |= {"network": "small", "steps": 10, "pretrain_steps": 20, "subjects": ["s9"]}
    seconds = {"finetuning": 3.0, "pretraining": 4.0}
    return {**values, "scores": scores, "seconds": seconds} | fields


def test_holm_multiplies_the_smallest_most_and_is_monotonic():
    # Smallest first: 4 × 0.01, 3 × 0.02, 2 × 0.035, and 0.04, which is raised to that before it.
    assert holm([0.02, 0.04, 0.01, 0.035]) == pytest.approx([0.06, 0.07, 0.04, 0.07])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_wilcoxon_is_over_subjects_and_one_sided():
    base = {(0, 0): row("scratch", [0.5, 0.5, 0.5, 0.5]), (0, 1): row("scratch", [0.5] * 4)}
    # Means over the draws +0.1, +0.2, +0.3, −0.05: of 16 ways of signs 2 have as small a sum of
    # negative ranks (0 or 1).
    mine = {(0, 0): row("a", [0.7, 0.7, 0.8, 0.35]), (0, 1): row("a", [0.5, 0.7, 0.8, 0.55])}
    assert gain_p(differences(mine, base)) == pytest.approx(2 / 16)
    assert gain_p(differences(base, mine)) == pytest.approx(15 / 16)
    assert gain_p(differences(base, base)) == 1
    # Only draws of both arms count.
    assert list(differences(mine, {(0, 0): base[0, 0]})) == [(0, 0)]


def test_the_table_pairs_draws_and_corrects_within_a_data_set_and_count(tmp_path):
    rows = [
        row("scratch", [0.5, 0.5, 0.5, 0.5]),
        row("scratch", [0.4, 0.4, 0.4, 0.4], draw=1),
        row("a", [0.61, 0.62, 0.63, 0.64]),
        row("a", [0.61, 0.62, 0.63, 0.64], draw=1),
        row("b", [0.1, 0.2, 0.3, 0.4]),
        row("b", [0.1, 0.2, 0.3, 0.4], part="validation"),
        row("a", [0.9] * 4, labelled="all"),
    ]
    found = latest(rows, part="test", steps=10)
    assert len(found) == 6
    lines = table(found).splitlines()
    assert len(lines) == 2 + 4
    # p of a is 1/16, and twice that for two arms; +0.125 and +0.225 have a deviation of 0.0707.
    a = next(line for line in lines if "| 1 | a |" in line)
    assert "| 0.625 ± 0.000 | 0 of 8 | 2.0 | +0.175 ± 0.071 | 0.1250 | 2 | 4 | 3 | 4 |" in a
    # A Dice below 0.5 counts as failed; 0.5 itself does not.
    assert "| 0.450 ± 0.071 | 4 of 8 |" in next(line for line in lines if "| scratch |" in line)
    assert next(line for line in lines if "| all | a |" in line).count(" – ") == 2
    few = [row("a", [0.7] * 4, slices=3), row("b", [0.7] * 4, slices=0)]
    assert latest(few, slices=3) == few[:1]
    assert latest([*rows, *few], part="test", slices=0, arm="b") == few[1:]
    again = latest([*rows, row("b", [0.8] * 4)], part="test")
    assert "| 0.800 |" in table(again)
    draw_curves(found, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_arms_without_pretraining_are_compared_with_pretraining_of_any_length():
    plain = row("scratch", [0.5], seconds={"finetuning": 3.0, "pretraining": 0.0})
    rows = [plain, row("a", [0.6]), row("a", [0.7], pretrain_steps=30)]
    for steps, dice in ((20, 0.6), (30, 0.7)):
        found = latest(rows, pretrain_steps=steps)
        assert [one["arm"] for one in found] == ["scratch", "a"]
        assert f"| d | 1 | a | {dice:.3f} |" in table(found)


def test_no_subject_is_in_two_parts():
    found = read_splits()
    assert set(found) == set(ABOUT)
    for data in found.values():
        parts = [set(data.part(part)) for part in PARTS]
        assert all(parts)
        assert not any(a & b for a, b in combinations(parts, 2))
    heart, brain = found["sunnybrook_lv"], found["msd_hippocampus"]
    assert [len(heart.part(part)) for part in PARTS] == [15, 6, 14]
    assert [len(brain.part(part)) for part in PARTS] == [132, 44, 44]


def test_the_file_of_splits_contains_every_subject(data_dir):
    written = json.loads(SPLITS.read_text())
    assert json.loads(json.dumps(make_splits(data_dir))) == written
    scans = {path.name.split("_E")[0] for path in (data_dir / "sunnybrook_lv/images").iterdir()}
    parts = written["sunnybrook_lv"]
    assert {s for part in PARTS for s in parts[part]} == scans


@pytest.mark.parametrize("name", ABOUT)
def test_every_arm_has_complete_settings_on_every_data_set(name):
    data = read_splits()[name]
    for arm in ARMS:
        one = cell(arm, data=data)
        settings = one.finetuning()
        near = data.neighbours if one.arm.neighbours is None else one.arm.neighbours
        shared = data.preprocessing.model_copy(update={"neighbours": near})
        assert settings.preprocessing == shared
        assert settings.training.steps == 1000
        assert settings.training.epochs is None
        for task, stage in one.pretraining():
            assert stage.preprocessing == shared
            assert stage.training.steps == 3000
            task.build(data.preprocessing.size, 0)
        assert np.isfinite(int(one.hash, 16))
