"""The command line, from scans to scores; the trainings of the fixtures in real processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from command_line import COMMAND, refused, run, run_process
from napari_sslseg.core.common.errors import CheckpointError
from napari_sslseg.core.demo.phantom.patient import write_dataset
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.scans.volume import load_volume
from patience import LIMIT


def leftovers(folder):
    return [path for path in Path(folder).rglob(".*") if path.name.startswith(".")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_dataset(folder, 6, "MR", seed=1)
    return folder


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "pre"
    done = run_process(
        "pretrain", data / "images", "--task", "context-restoration", "--out", out,
        "--steps", 6, "--batch-size", 4, "--network", "tiny", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def finetuned(data, pretrained, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "ft"
    done = run_process(
        "finetune", "--images", data / "images", "--labels", data / "labels",
        "--init", pretrained, "--out", out, "--steps", 8, "--batch-size", 4, "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tensors copied" in done.stderr
    return out


@pytest.fixture(scope="module")
def predictions(data, finetuned, tmp_path_factory):
    out = tmp_path_factory.mktemp("predictions")
    done = run("predict", finetuned, data / "images", "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def test_training_on_unlabelled_scans_and_neighbouring_slices(data, tmp_path):
    """One labelled scan in a separate folder, and the folder of all scans without labels."""
    one = sorted((data / "images").iterdir())[0]
    (tmp_path / "few").mkdir()
    shutil.copy(data / "labels" / one.name, tmp_path / "few" / one.name)
    given = ["--images", one, "--labels", tmp_path / "few", "--unlabelled", data / "images"]
    settings = ["--steps", 4, "--batch-size", 2, "--network", "tiny", "--size", "32,32"]
    settings += ["--neighbours", 1]
    done = run("finetune", *given, "--out", tmp_path / "run", "--device", "cpu", *settings)
    assert done.returncode == 0, done.stderr
    record = Run.open(tmp_path / "run").record
    roles = [entry["role"] for entry in record["data"]]
    assert roles == ["training"] + 5 * ["unlabelled"]
    assert record["settings"]["average_decay"] == 0.99
    assert record["settings"]["preprocessing"]["neighbours"] == 1
    assert record["settings"]["self_training"]["least_part"] > 0
    no = ["--out", tmp_path / "no"]
    assert refused(run("finetune", *given, "--preset", "dominic-2023", *no), "--unlabelled")
    lost = [*given[:-1], tmp_path / "nowhere"]
    assert refused(run("finetune", *lost, *no), "nowhere")
    assert refused(run("finetune", *given[:-2], "--many-pieces", *no), "--unlabelled")


def test_training_on_structures_with_many_components(data, tmp_path):
    one = sorted((data / "images").iterdir())[0]
    (tmp_path / "few").mkdir()
    shutil.copy(data / "labels" / one.name, tmp_path / "few" / one.name)
    done = run(
        "finetune", "--images", one, "--labels", tmp_path / "few", "--unlabelled", data / "images",
        "--many-pieces", "--out", tmp_path / "run", "--device", "cpu", "--steps", 4,
        "--batch-size", 2, "--network", "tiny", "--size", "32,32",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Run.open(tmp_path / "run").record["settings"]["self_training"]["least_part"] == 0


def test_a_pretraining_run_contains_weights_record_and_metrics(pretrained):
    record = json.loads((pretrained / "run.json").read_text())
    assert record["kind"] == "pretrain"
    assert record["status"] == "finished"
    assert record["task"]["kind"] == "context-restoration"
    assert record["task"]["patch_size"] == 8  # 1/16 of 128 pixels, as 32 is of 512
    assert len(record["scans"]) == 6
    assert record["slices"]["validation"] > 0
    assert (pretrained / "last.safetensors").exists()
    assert len((pretrained / "metrics.csv").read_text().splitlines()) >= 7


def test_fine_tuning_records_where_every_tensor_came_from(finetuned):
    record = json.loads((finetuned / "run.json").read_text())
    assert record["classes"] == [1, 2, 3, 4, 5]
    copied = record["transfer"]["copied"]
    assert copied
    assert all(name.startswith("encoder.") for name in copied)
    skipped = {item["name"] for item in record["transfer"]["skipped"]}
    assert "output.weight" in skipped
    assert "decoder.levels.0.up.weight" in skipped


@pytest.mark.slow
def test_a_pretraining_starts_from_another(data, pretrained, tmp_path):
    done = run(
        "pretrain", data / "images", "--task", "local-contrast", "--init", pretrained,
        "--out", tmp_path / "local", "--steps", 2, "--batch-size", 2, "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Start from pre: " in done.stderr
    assert "--transfer encoder+decoder" in done.stderr
    record = json.loads((tmp_path / "local" / "run.json").read_text())
    before = json.loads((pretrained / "run.json").read_text())
    assert record["init"] == "pre"
    assert before["init"] == "scratch"
    for name in ("network", "preprocessing"):
        assert record["settings"][name] == before["settings"][name]


def test_predictions_lie_on_the_grid_of_their_scans(data, predictions):
    images = sorted((data / "images").iterdir())
    assert sorted(p.name for p in predictions.glob("*.nii.gz")) == [p.name for p in images]
    assert json.loads((predictions / "classes.json").read_text())["1"] == "liver"
    for image in images:
        scan, labels = nib.load(image), nib.load(predictions / image.name)
        assert labels.shape == scan.shape
        np.testing.assert_array_equal(labels.affine, scan.affine)
        assert set(np.unique(labels.dataobj)) <= {0, 1, 2, 3, 4, 5}


def test_scans_that_the_run_learnt_from_are_not_in_the_means(data, pretrained, tmp_path):
    images = sorted((data / "images").iterdir())
    for kind, count in (("images", 2), ("labels", 2)):
        (tmp_path / kind).mkdir()
        for image in images[:count]:
            shutil.copy(data / kind / image.name, tmp_path / kind)
    done = run(
        "finetune", "--images", tmp_path / "images", "--labels", tmp_path / "labels", "--init",
        pretrained, "--out", tmp_path / "run", "--steps", 8, "--batch-size", 4, "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Under other names, since values decide, and one as it is.
    (tmp_path / "scans").mkdir()
    for number, image in enumerate(images):
        name = f"x{number}.nii.gz" if number else image.name
        shutil.copy(image, tmp_path / "scans" / name)
        (tmp_path / "truth").mkdir(exist_ok=True)
        shutil.copy(data / "labels" / image.name, tmp_path / "truth" / name)
    done = run("predict", tmp_path / "run", tmp_path / "scans", "--out", tmp_path / "o")
    assert "2 of 6 scans" in done.stderr
    done = run("evaluate", tmp_path / "o", tmp_path / "truth", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    known = [images[0].name.removesuffix(".nii.gz"), "x1"]
    assert sorted(found["left_out"]) == sorted(known)
    uses = {volume["name"]: volume["use"] for volume in found["volumes"]}
    assert {name for name, use in uses.items() if use == "training"} == set(known)
    # The pretraining has seen all images.
    assert set(uses.values()) == {"training", "without labels"}
    assert all(summary["n"] <= 4 for summary in found["classes"].values())
    others = [v["classes"]["1"]["dice"] for v in found["volumes"] if v["name"] not in known]
    assert found["classes"]["1"]["dice"] == pytest.approx(np.mean(others))
    done = run("evaluate", tmp_path / "o", tmp_path / "truth")
    assert "2 of 6 scans" in done.stderr
    # A prediction that somebody changed is no longer that of the run.
    changed = nib.load(tmp_path / "o" / "x1.nii.gz")
    values = np.array(changed.dataobj)
    values[0, 0, 0] = 1
    nib.save(nib.Nifti1Image(values, changed.affine, changed.header), tmp_path / "o" / "x1.nii.gz")
    done = run("evaluate", tmp_path / "o", tmp_path / "truth", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["left_out"] == known[:1]


def test_evaluate_prints_json(data, predictions):
    done = run("evaluate", predictions, data / "labels", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["classes"]) == {"1", "2", "3", "4", "5"}
    assert set(found["classes"]["1"]) >= {"dice", "hd95_mm"}
    assert 0 <= found["mean_dice"] <= 1
    assert len(found["volumes"]) == 6


def test_swapped_folders_are_noticed_by_the_list_of_predictions(data, predictions, tmp_path):
    assert refused(run("evaluate", data / "labels", predictions), "swap")
    shutil.copytree(predictions, tmp_path / "same")  # Two runs may be compared.
    assert run("evaluate", tmp_path / "same", predictions).returncode == 0


def test_labels_against_themselves_are_perfect(data):
    done = run("evaluate", data / "labels", data / "labels", "--json")
    found = json.loads(done.stdout)
    assert found["mean_dice"] == 1
    assert all(c["dice"] == 1 and c["hd95_mm"] == 0 for c in found["classes"].values())


def test_evaluate_prints_a_table(data):
    done = run("evaluate", data / "labels", data / "labels")
    assert "HD95 (mm)" in done.stdout
    assert "Mean Dice: 1.0000" in done.stdout


@pytest.mark.parametrize("with_run", [False, True])
def test_preview_draws_a_picture(data, pretrained, tmp_path, with_run):
    image = next((data / "images").iterdir())
    out = tmp_path / "preview.png"
    done = run(
        "preview", image, "--task", "context-restoration", "--out", out,
        *(["--init", pretrained] if with_run else []),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert out.read_bytes()[:4] == b"\x89PNG"
    assert out.stat().st_size > 20_000
    out.write_text("of the user")
    again = run("preview", image, "--out", out)
    assert refused(again, str(out), "--overwrite")
    assert out.read_text() == "of the user"


def test_a_preview_of_a_run_refuses_other_settings(data, pretrained, tmp_path):
    image = next((data / "images").iterdir())
    for option in (("--task", "mae"), ("--plane", "coronal"), ("--volumes",), ("--size", 64)):
        done = run("preview", image, *option, "--init", pretrained, "--out", tmp_path / "p.png")
        assert refused(done, str(pretrained), option[0])


def test_only_annotated_slices_are_used_for_training(data, tmp_path):
    name = sorted((data / "images").iterdir())[0].name.removesuffix(".nii.gz")
    marked = tmp_path / "annotated.json"
    marked.write_text(json.dumps({name: [10, 12]}))
    done = run(
        "finetune", "--images", data / "images", "--labels", data / "labels",
        "--annotated", marked, "--init", "scratch", "--out", tmp_path / "run",
        "--steps", 3, "--batch-size", 2, "--network", "tiny", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["slices"] == {"training": 2, "validation": 0}
    assert record["scans"] == [name]


def test_validation_subjects_are_held_out(data, tmp_path):
    done = run(
        "finetune", "--images", data / "images", "--labels", data / "labels", "--out",
        tmp_path / "run", "--steps", 3, "--batch-size", 2, "--network", "tiny",
        "--validation-share", 0.3, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["slices"] == {"training": 96, "validation": 48}
    assert (tmp_path / "run" / "best.safetensors").exists()


class TestBadInput:
    def test_a_missing_folder(self, tmp_path):
        assert refused(run("pretrain", tmp_path / "nowhere", "--out", tmp_path / "o"), "nowhere")
        assert not (tmp_path / "o").exists()

    def test_an_empty_folder(self, tmp_path):
        (tmp_path / "empty").mkdir()
        assert refused(run("pretrain", tmp_path / "empty", "--out", tmp_path / "o"), "empty")

    def test_a_missing_demo_folder(self, tmp_path):
        done = run("demo", "--data", tmp_path / "nowhere", "--out", tmp_path / "o", "--fast")
        assert refused(done, "nowhere")

    def test_a_text_file_named_nifti(self, tmp_path):
        fake = tmp_path / "scan.nii.gz"
        fake.write_text("version https://git-lfs.github.com/spec/v1\n")
        assert refused(run("pretrain", fake, "--out", tmp_path / "o"), "scan.nii.gz")
        assert refused(run("preview", fake, "--out", tmp_path / "p.png"), "scan.nii.gz")
        assert not (tmp_path / "p.png").exists()

    def test_an_image_without_its_label(self, data, tmp_path):
        shutil.copytree(data, tmp_path / "data")
        lost = sorted((tmp_path / "data" / "labels").iterdir())[2]
        lost.unlink()
        done = self.finetune(tmp_path)
        assert refused(done, lost.name, "no labels")

    def test_a_label_on_another_grid(self, data, tmp_path):
        shutil.copytree(data, tmp_path / "data")
        path = sorted((tmp_path / "data" / "labels").iterdir())[1]
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:, :, :-1], image.affine), path)
        assert refused(self.finetune(tmp_path), path.name, "grid")

    def test_a_label_value_that_is_not_a_class(self, data, tmp_path):
        shutil.copytree(data, tmp_path / "data")
        done = self.finetune(tmp_path, "--classes", "1,2,3")
        assert refused(done, "4", "1, 2, 3")

    def finetune(self, folder, *options):
        done = run(
            "finetune", "--images", folder / "data" / "images", "--labels",
            folder / "data" / "labels", "--out", folder / "o", "--steps", 2, "--network", "tiny",
            *options,
        )  # fmt: skip
        assert not (folder / "o" / "run.json").exists()
        assert not leftovers(folder)
        return done

    def test_a_run_of_the_wrong_kind(self, data, pretrained, tmp_path):
        done = run("predict", pretrained, data / "images", "--out", tmp_path)
        assert refused(done, "finetune")

    def test_no_run(self, data, tmp_path):
        done = run("predict", tmp_path, data / "images", "--out", tmp_path / "o")
        assert refused(done, str(tmp_path))

    def test_local_contrast_from_scratch(self, data, tmp_path):
        arguments = ("pretrain", data / "images", "--out", tmp_path / "o")
        assert refused(run(*arguments, "--task", "local-contrast"), "--init")
        assert not (tmp_path / "o").exists()

    def test_another_network_than_that_of_the_run_to_start_from(self, data, pretrained, tmp_path):
        done = run(
            "pretrain", data / "images", "--out", tmp_path, "--init", pretrained, "--network",
            "tiny",
        )  # fmt: skip
        assert refused(done, pretrained.name, "--network")

    def test_a_folder_with_a_run_is_not_overwritten(self, data, pretrained):
        before = (pretrained / "last.safetensors").read_bytes()
        arguments = ("pretrain", data / "images", "--out", pretrained, "--steps", 1)
        assert refused(run(*arguments), str(pretrained))
        assert (pretrained / "last.safetensors").read_bytes() == before

    def test_a_ct_for_a_network_of_mr(self, finetuned, tmp_path):
        write_dataset(tmp_path / "ct", 1, "CT", seed=1)
        done = run("predict", finetuned, tmp_path / "ct" / "images", "--out", tmp_path / "o")
        assert refused(done, "CT", "MR")

    def test_predictions_do_not_overwrite_labels(self, data, finetuned, tmp_path):
        shutil.copytree(data / "labels", tmp_path / "labels")
        before = {path: path.read_bytes() for path in (tmp_path / "labels").iterdir()}
        arguments = ("predict", finetuned, data / "images", "--out", tmp_path / "labels")
        assert refused(run(*arguments), str(tmp_path / "labels"))
        assert {path: path.read_bytes() for path in (tmp_path / "labels").iterdir()} == before
        # They have the names of those that the run learnt from.
        assert refused(run(*arguments, "--overwrite"), "learnt from")
        assert {path: path.read_bytes() for path in (tmp_path / "labels").iterdir()} == before
        (tmp_path / "labels").rename(tmp_path / "others")
        arguments = (*arguments[:-1], tmp_path / "others")
        assert refused(run(*arguments), str(tmp_path / "others"))
        assert run(*arguments, "--overwrite").returncode == 0

    def test_a_run_that_would_replace_its_own_start(self, data, pretrained):
        done = run(
            "finetune", "--images", data / "images", "--labels", data / "labels", "--init",
            pretrained, "--out", pretrained, "--overwrite",
        )  # fmt: skip
        assert refused(done, str(pretrained))
        assert (pretrained / "last.safetensors").exists()

    @pytest.mark.parametrize("change", [{"settings": [1]}, {"settings": {"network": 3}}])
    def test_a_damaged_record(self, data, finetuned, pretrained, tmp_path, change):
        for kind in (finetuned, pretrained):
            shutil.copytree(kind, tmp_path / kind.name)
            record = json.loads((kind / "run.json").read_text())
            (tmp_path / kind.name / "run.json").write_text(json.dumps(record | change))
        image = next((data / "images").iterdir())
        for arguments in (
            ("predict", tmp_path / finetuned.name, image, "--out", tmp_path / "o"),
            ("preview", image, "--init", tmp_path / pretrained.name, "--out", tmp_path / "p.png"),
        ):
            assert refused(run(*arguments), str(tmp_path))

    @pytest.mark.parametrize("task", [None, 7, {}, {"kind": [1]}, {"kind": "jigsaw"}])
    def test_a_record_without_a_known_task(self, pretrained, task):
        record = json.loads((pretrained / "run.json").read_text())
        with pytest.raises(CheckpointError, match=re.escape(str(pretrained))):
            Run(pretrained, record | {"task": task}).task()

    def test_other_scans_are_predicted_despite_a_broken_one(self, data, finetuned, tmp_path):
        scans = tmp_path / "scans"
        scans.mkdir()
        good = sorted((data / "images").iterdir())[0]
        shutil.copy(good, scans / "z.nii.gz")
        (scans / "a.nii.gz").write_bytes(good.read_bytes()[:2000])
        done = run("predict", finetuned, scans, "--out", tmp_path / "o")
        assert refused(done, "a.nii.gz")
        assert [p.name for p in (tmp_path / "o").glob("*.nii*")] == ["z.nii.gz"]

    def test_label_maps_among_the_scans_are_not_predicted(self, data, finetuned, tmp_path):
        scans = tmp_path / "scans"
        scans.mkdir()
        good = sorted((data / "images").iterdir())[0]
        shutil.copy(good, scans / "z.nii.gz")
        shutil.copy(data / "labels" / good.name, scans / "b.nii.gz")
        done = run("predict", finetuned, scans, "--out", tmp_path / "o")
        assert refused(done, "b.nii.gz", "label map")
        assert [p.name for p in (tmp_path / "o").glob("*.nii*")] == ["z.nii.gz"]

    def test_a_least_part_above_1(self, data, finetuned, tmp_path):
        arguments = ("predict", finetuned, data / "images", "--out", tmp_path / "o")
        assert refused(run(*arguments, "--least-part", "10"), "10")
        assert not (tmp_path / "o").exists()

    @pytest.mark.parametrize(
        ("option", "value", "word"),
        [
            ("--task", "jigsaw", "jigsaw"),
            ("--network", "huge", "huge"),
            ("--device", "cuda:77", "cuda:77"),
            ("--plane", "oblique", "oblique"),
            ("--spacing", "wide", "wide"),
            ("--modality", "PET", "PET"),
            ("--patch-size", "100", "62 pixels"),
            ("--steps", "0", "steps"),
            ("--learning-rate", "-1", "learning_rate"),
            ("--nonsense", "1", "--nonsense"),
        ],
    )
    def test_an_impossible_option(self, data, tmp_path, option, value, word):
        done = run("pretrain", data / "images", "--out", tmp_path / "o", option, value)
        assert refused(done, word)

    def test_a_full_disk_while_training(self, data, tmp_path):
        limited = (
            "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
            "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
            "from napari_sslseg.cli.app import main; main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", limited, "pretrain", data / "images", "--out", tmp_path / "o",
             "--steps", "2", "--batch-size", "2", "--network", "tiny"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert refused(done, "Could not write", ".safetensors")
        assert not leftovers(tmp_path)
        assert not list((tmp_path / "o").glob("*.safetensors"))


def test_ctrl_c_keeps_the_last_checkpoint(data, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*COMMAND, "pretrain", data / "images", "--out", out, "--steps", "100000",
         "--batch-size", "2", "--network", "tiny"],
        stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (out / "run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("napari-sslseg: ")
    assert "--resume" in stderr.splitlines()[-1]
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "stopped"
    assert json.loads((out / "last.json").read_text())["step"] > 0
    assert not leftovers(tmp_path)


@pytest.mark.slow
def test_ctrl_c_in_the_last_fine_tuning_of_the_demo_writes_no_report(data, tmp_path):
    script = (
        "from napari_sslseg.core.demo import plan as p; "
        "p.FAST = p.DemoPlan(4, (1,), 1, 0.25, 2, 0.1, 10000, 'tiny'); "
        "from napari_sslseg.cli.app import main; main()"
    )
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "demo", "--data", data, "--fast", "--out", out],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (out / "runs" / "scratch-1-seed0" / "run.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert not (out / "report.json").exists()
    assert not (out / "predictions").exists()


@pytest.mark.slow
def test_demo_on_a_folder_writes_a_report(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    unlabelled = sorted((tmp_path / "data" / "labels").iterdir())[0]
    unlabelled.unlink()
    script = (
        "from napari_sslseg.core.demo import plan as p; "
        "p.FAST = p.DemoPlan(4, (1, 2), 1, 0.25, 2, 0.5, 0.5, 'tiny'); "
        "from napari_sslseg.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "demo", "--data", tmp_path / "data", "--fast", "--out",
         tmp_path / "out", "--seed", "3", "--json"],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert json.loads(done.stdout)["arms"] == report["arms"]
    assert {"dataset", "arms", "test_volumes", "seconds"} <= set(report)
    assert report["dataset"]["volumes"] == 6
    assert [(arm["arm"], arm["labelled_volumes"]) for arm in report["arms"]] == [
        (arm, count) for count in (1, 2) for arm in ("scratch", "pretrained", "self-trained")
    ]
    for arm in report["arms"]:
        assert set(arm["dice"]) == {"1", "2", "3", "4", "5"}
        assert 0 <= arm["mean"] <= 1
        assert not set(arm["labelled"]) & set(report["test_volumes"])
    name = unlabelled.name.removesuffix(".nii.gz")
    assert name not in report["test_volumes"]
    assert (tmp_path / "out" / "report.png").read_bytes()[:4] == b"\x89PNG"
    assert report["predictions"] == {"folder": "predictions/self-trained", "arm": "self-trained"}
    for arm in report["arms"]:
        assert set(arm["volumes"]) == set(report["test_volumes"])
        assert {scan["subject"] for scan in arm["volumes"].values()} == set(report["test_patients"])
    written = sorted((tmp_path / "out" / "predictions" / "self-trained").glob("*.nii.gz"))
    assert [p.name for p in written] == sorted(f"{name}.nii.gz" for name in report["test_volumes"])
    for path in written:
        scan = load_volume(tmp_path / "data" / "images" / path.name)
        assert load_volume(path).geometry.matches(scan.geometry)
    assert {"pretrain", "finetune", "predict", "total"} <= set(report["seconds"])
