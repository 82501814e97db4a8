"""Presets on the command line."""

import json
import subprocess
import sys

import pytest

from napari_sslseg.core.phantom import write_dataset
from napari_sslseg.core.presets import PRESETS, Preset

COMMAND = [sys.executable, "-c", "from napari_sslseg.cli import main; main()"]


def run(*arguments):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=280
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_dataset(folder, 2, "MR", seed=1)
    return folder


def test_the_table_names_them_all():
    done = run("presets")
    assert done.returncode == 0, done.stderr
    for name, preset in PRESETS.items():
        line = next(line for line in done.stdout.splitlines() if line.strip().startswith(name))
        assert preset.paper in line
        assert preset.network.title in line


def test_one_preset_in_words():
    done = run("presets", "polycl-s")
    words = " ".join(done.stdout.split())
    assert "resized to 256 × 256" in words
    assert "falling along a cosine, anew every 10 epochs" in words
    assert "Where it departs from the paper" in words
    for decision in PRESETS["polycl-s"].decisions:
        assert " ".join(decision.here.split()) in words
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_json_gives_the_presets_back():
    found = [Preset.model_validate(item) for item in json.loads(run("presets", "--json").stdout)]
    assert found == list(PRESETS.values())
    one = json.loads(run("presets", "dominic-2023", "--json").stdout)
    assert Preset.model_validate(one) == PRESETS["dominic-2023"]


@pytest.mark.parametrize("command", ["presets", "pretrain", "finetune"])
def test_an_unknown_name(data, tmp_path, command):
    images, labels = data / "images", data / "labels"
    arguments = {
        "presets": ["jigsaw"],
        "pretrain": [images, "--preset", "jigsaw", "--out", tmp_path / "o"],
        "finetune": [
            "--images", images, "--labels", labels, "--preset", "jigsaw", "--out", tmp_path / "o",
        ],
    }[command]  # fmt: skip
    done = run(command, *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert all(name in line for name in ["jigsaw", *PRESETS])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--task", "mae"), "has a task of its own"),
        (("--patch-size", "64", "--size", "96"), "choose a patch size of"),
        (("--size", "100"), "multiples of 16"),
        (("--size", "wide"), "no number of pixels"),
        (("--selection", "scan"), "no option selection"),
    ],
)
def test_what_cannot_be_is_one_line(data, tmp_path, options, words):
    done = run(
        "pretrain", data / "images", "--preset", "dominic-2023", "--out", tmp_path / "o",
        "--network", "tiny", *options,
    )  # fmt: skip
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_shortened_preset_from_scans_to_predictions(data, tmp_path):
    short = ("--steps", 2, "--batch-size", 4, "--size", "64,48", "--json")
    done = run(
        "pretrain", data / "images", "--preset", "polycl-s", "--out", tmp_path / "pre",
        "--network", "tiny", *short,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["settings"]["preset"] == "polycl-s"
    assert record["settings"]["training"]["schedule"] == "cosine-restarts"
    assert record["settings"]["training"]["learning_rate"] == 1e-4
    assert record["settings"]["preprocessing"]["size"] == [64, 48]
    done = run(
        "finetune", "--images", data / "images", "--labels", data / "labels", "--init",
        tmp_path / "pre", "--preset", "polycl-s", "--out", tmp_path / "ft", "--steps", 2,
        "--batch-size", 2, "--middle-share", 1, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["settings"]["loss"] == "dice-per-sample"
    assert record["settings"]["middle_share"] == 1
    assert (
        record["settings"]["network"]
        == json.loads((tmp_path / "pre" / "run.json").read_text())["settings"]["network"]
    )
    done = run("predict", tmp_path / "ft", data / "images", "--out", tmp_path / "o")
    assert done.returncode == 0, done.stderr


def test_left_and_right_kidneys_start_a_network_of_volumes(tmp_path):
    """The preset of Dhere & Sivaswamy from masks to predictions, coarser than in the paper."""
    write_dataset(tmp_path / "data", 3, "CT", seed=1)
    images, labels = tmp_path / "data" / "images", tmp_path / "data" / "labels"
    preset = ("--preset", "dhere-2019", "--steps", 2)
    coarse = ("--spacing", "10,8,8", "--batch-size", 2)
    done = run(
        *(
            "pretrain",
            images,
            "--masks",
            labels,
            "--left",
            3,
            "--right",
            2,
            "--out",
            tmp_path / "p",
        ),
        *(*preset, *coarse, "--json"),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["task"]["left"] == [3]
    assert record["settings"]["network"]["kind"] == "dense3d"
    # Six kidneys; with three subjects none is kept out.
    assert record["slices"] == {"training": 6, "validation": 0}
    done = run(
        *("finetune", "--images", images, "--labels", labels, "--init", tmp_path / "p"),
        *("--out", tmp_path / "f", *preset),
    )
    assert done.returncode == 0, done.stderr
    done = run("predict", tmp_path / "f", images, "--out", tmp_path / "predictions")
    assert done.returncode == 0, done.stderr
    done = run("evaluate", tmp_path / "predictions", labels, "--json")
    assert len(json.loads(done.stdout)["volumes"]) == 3


def test_masks_tell_polycl_where_the_organ_is(data, tmp_path):
    done = run(
        *("pretrain", data / "images", "--masks", data / "labels", "--organ", "2,3"),
        *("--preset", "polycl-o", "--steps", 1, "--batch-size", 4, "--size", 64),
        *("--middle-share", 1, "--out", tmp_path / "p", "--json"),
    )
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)["task"]["organ_slices"]) == [
        "phantom_mr_001",
        "phantom_mr_002",
    ]
    done = run("pretrain", data / "images", "--preset", "polycl-o", "--out", tmp_path / "q")
    assert done.returncode == 2
    assert "organ_slices" in done.stderr
