"""Presets on the command line."""

import json

import pytest

from command_line import run
from napari_sslseg.core.demo.phantom.patient import write_dataset
from napari_sslseg.core.settings.presets.preset import Preset
from napari_sslseg.core.settings.presets.registry import PRESETS


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
    assert "cosine" in words
    assert "every 10 epochs" in words
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
        (("--task", "mae"), "--task"),
        (("--patch-size", "64", "--size", "96"), "patch"),
        (("--size", "100"), "16"),
        (("--size", "wide"), "wide"),
        (("--selection", "scan"), "selection"),
    ],
)
def test_an_impossible_option_is_one_line(data, tmp_path, options, words):
    done = run(
        "pretrain", data / "images", "--preset", "dominic-2023", "--out", tmp_path / "o",
        "--network", "tiny", *options,
    )  # fmt: skip
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
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


@pytest.mark.slow
def test_left_and_right_kidneys_pretrain_a_network_of_volumes(tmp_path):
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
    # Six kidneys; with three subjects none is held out.
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


@pytest.mark.slow
def test_masks_give_polycl_the_slices_of_the_organ(data, tmp_path):
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


@pytest.mark.slow
def test_masks_are_read_along_the_plane_of_the_run_to_start_from(data, tmp_path):
    images = data / "images"
    short = ("--steps", 1, "--batch-size", 4, "--network", "tiny")
    done = run("pretrain", images, "--plane", "coronal", *short, "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    polycl = ("--task", "polycl", "--selection", "organ", "--masks", data / "labels")
    done = run(
        *("pretrain", images, *polycl, "--organ", 2, "--init", tmp_path / "a"),
        *("--steps", 1, "--batch-size", 4, "--out", tmp_path / "b", "--json"),
    )
    assert done.returncode == 0, done.stderr
    tags = json.loads(done.stdout)["task"]["organ_slices"]
    # The right kidney of a patient of 24 axial and 128 coronal slices lies dorsally.
    assert min(tags["phantom_mr_001"]) > 30


@pytest.mark.slow
def test_a_run_to_start_from_cannot_be_overridden(data, tmp_path):
    done = run(
        *("pretrain", data / "images", "--network", "tiny", "--steps", 1, "--batch-size", 4),
        *("--out", tmp_path / "a"),
    )
    assert done.returncode == 0, done.stderr
    preset = ("--preset", "umapathy-2022-regression", "--init", tmp_path / "a")
    done = run("pretrain", data / "images", *preset, "--size", 64, "--out", tmp_path / "b")
    assert done.returncode == 2
    assert "--size" in done.stderr.splitlines()[-1]
    done = run(
        *("finetune", "--images", data / "images", "--labels", data / "labels", *preset),
        *("--steps", 1, "--out", tmp_path / "c"),
    )
    assert done.returncode == 0, done.stderr
    assert all(name in done.stderr for name in ("unet2d", "umapathy-2022-regression"))


@pytest.mark.slow
def test_both_stages_have_the_given_size_and_the_second_is_checked_first(data, tmp_path):
    two = ("--preset", "umapathy-2022-contrastive", "--batch-size", 2, "--steps", 1)
    done = run("pretrain", data / "images", *two, "--size", "192,160", "--out", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    for folder in (tmp_path / "a", tmp_path / "a" / "first-stage"):
        record = json.loads((folder / "run.json").read_text())
        assert record["settings"]["preprocessing"]["size"] == [192, 160]
    done = run("pretrain", data / "images", *two, "--size", 32, "--out", tmp_path / "b")
    assert done.returncode == 2
    assert "13 regions" in done.stderr
    assert not (tmp_path / "b").exists()


def test_an_invalid_combination_of_settings_is_one_short_line(data, tmp_path):
    done = run("pretrain", data / "images", "--size", 100, "--out", tmp_path / "a")
    assert done.returncode == 2
    assert "100 × 100" in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()[-1]) < 120
