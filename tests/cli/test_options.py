"""Options of the commands: defaults, lists of choices, and which were given."""

import re

import nibabel as nib
import numpy as np
import pytest

from command_line import refused, run
from napari_sslseg.cli.settings import NetworkOptions
from napari_sslseg.core.settings.networks import NETWORKS
from napari_sslseg.core.settings.pretext.registry import TASKS
from napari_sslseg.core.settings.training import (
    BATCH_SIZE,
    FINETUNE_STEPS,
    LEARNING_RATE,
    PRETRAIN_STEPS,
    VOLUME_BATCH_SIZE,
)


def help_of(command):
    return re.sub(r"\s+", " ", run(command, "--help").stdout)


@pytest.mark.parametrize(
    ("command", "steps"), [("pretrain", PRETRAIN_STEPS), ("finetune", FINETUNE_STEPS)]
)
def test_the_help_states_the_defaults_of_the_settings(command, steps):
    text = help_of(command)
    assert f"{steps} if not set" in text
    assert f"{BATCH_SIZE} if not set; crops of volumes, {VOLUME_BATCH_SIZE}" in text
    assert f"{LEARNING_RATE} if not set" in text


def test_the_help_names_all_tasks_and_networks():
    # Long lists are wrapped after hyphens.
    text = help_of("pretrain").replace("- ", "-")
    assert all(name in text for name in (*TASKS, *NETWORKS))


KEPT = ("--cache", "c", "--device", "cpu", "--threads", 1)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--steps", 5, "--task", "mae"), ("--steps", "--task")),
        (("--seed", 0), ("--seed",)),
        (("--overwrite",), ("--overwrite",)),
        (("--compile",), ("--compile",)),
    ],
)
def test_resume_refuses_settings_by_name(tmp_path, given, named):
    done = run("pretrain", tmp_path, "--out", tmp_path / "o", "--resume", *KEPT, *given)
    assert refused(done, *named)
    assert not any(str(option) in done.stderr for option in KEPT[::2])


@pytest.mark.parametrize("off", [(), ("--no-overwrite",)])
def test_resume_accepts_scans_folders_and_devices(tmp_path, off):
    done = run("pretrain", tmp_path, "--out", tmp_path / "o", "--resume", *KEPT, *off)
    assert refused(done, str(tmp_path))
    assert "leave out" not in done.stderr


def test_a_word_for_annotated_slices_that_is_misspelt_is_named(tmp_path):
    found = run("evaluate", tmp_path, tmp_path, "--annotated", "labeled")
    assert found.returncode == 2
    assert "Did you mean labelled?" in found.stderr


def test_fine_tuning_is_resumed_without_settings(tmp_path):
    folders = ("--images", tmp_path, "--labels", tmp_path, "--out", tmp_path / "o")
    done = run("finetune", *folders, "--resume", "--classes", "1,2", "--many-pieces")
    assert refused(done, "--classes", "--many-pieces")


@pytest.mark.parametrize(
    ("text", "clipping", "percentiles"),
    [
        (None, "soft", (0.5, 99.5)),
        ("hard", "hard", (0.5, 99.5)),
        ("none", "hard", (0, 100)),
        ("1,99", "soft", (1, 99)),
        ("2,98,hard", "hard", (2, 98)),
    ],
)
def test_clip_sets_how_mr_values_are_clipped(tmp_path, text, clipping, percentiles):
    scan = save_scan(tmp_path / "mr.nii.gz", lowest=0)
    found = NetworkOptions(clip=text).preprocessing(scan, None, 2)
    assert (found.clipping, found.clip_percentiles) == (clipping, percentiles)


@pytest.mark.parametrize("text", ["gentle", "1", "99,1", "1,2,3", "soft,1", "nan,99", ""])
def test_other_ways_to_clip_are_refused(tmp_path, text):
    save_scan(tmp_path / "mr.nii.gz", lowest=0)
    done = run("pretrain", tmp_path, "--out", tmp_path / "o", "--clip", text)
    assert refused(done, "clip")


def test_clip_is_refused_for_ct(tmp_path):
    save_scan(tmp_path / "ct.nii.gz", lowest=-1000)
    done = run("pretrain", tmp_path, "--out", tmp_path / "o", "--clip", "hard")
    assert refused(done, "--clip", "MR")


def save_scan(path, lowest):
    values = np.random.default_rng(0).integers(0, 100, (32, 32, 4)).astype(np.int16)
    values[:16] = lowest
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    return path
