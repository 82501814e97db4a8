"""Presets: the numbers printed in the papers, and short runs of each preset."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import Done, Message, StopFlag
from napari_sslseg.core.results.predict import load_segmenter
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.preprocessing import VolumePreprocessing
from napari_sslseg.core.settings.presets.description import preset_rows
from napari_sslseg.core.settings.presets.preset import Preset
from napari_sslseg.core.settings.presets.registry import PRESETS, preset_named
from napari_sslseg.core.settings.pretext.registry import TASKS
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings
from napari_sslseg.core.stages import preset as preset_runs

FLAT = [name for name, preset in PRESETS.items() if preset.network.dimensions == 2]


pytestmark = pytest.mark.usefixtures("one_thread")


def numbers(training):
    return (
        training.epochs,
        training.batch_size,
        training.learning_rate,
        training.schedule,
        training.weight_decay,
        training.optimizer,
    )


def augmented(preset):
    return {name for name, value in preset.finetuning.augmentation if value}


def test_dominic():
    preset = PRESETS["dominic-2023"]
    (stage,) = preset.stages
    task = stage.make_task()
    assert (task.kind, task.patch_size, task.sampling) == (
        "context-restoration",
        32,
        "poisson-disc",
    )
    assert (task.min_area, task.n_masks) == (0.25, 100)
    for training in (stage.settings.training, preset.finetuning.training):
        assert numbers(training)[1:] == (9, 1e-3, "step-decay", 0, "adam")
        assert training.betas == (0.99, 0.995)
    stopping = stage.settings.training.early_stopping, preset.finetuning.training.early_stopping
    assert [(s.min_delta, s.patience) for s in stopping] == [(50, 4), (1e-3, 10)]
    assert preset.network == core.Network(widths=(32, 64, 128, 256, 512), groups=16)
    assert preset.mr.normalize == "volume"
    assert preset.ct.normalize == "slice"
    assert [(w.width, w.level) for w in preset.ct.windows] == [(400, 50), (1800, 40), (500, 50)]
    assert preset.finetuning.loss == "dice"
    assert preset.finetuning.transfer == "encoder"
    assert not augmented(preset)


def test_umapathy():
    for name in ("umapathy-2022-regression", "umapathy-2022-contrastive"):
        preset = PRESETS[name]
        for stage in preset.stages:
            numbers_here = numbers(stage.settings.training)
            assert (numbers_here[0], *numbers_here[2:]) == (1000, 1e-3, "plateau", 0, "adam")
            assert stage.settings.training.plateau_patience == 10
        assert preset.finetuning.training.epochs == 500
        assert numbers(preset.finetuning.training)[2:4] == (1e-3, "plateau")
        assert preset.finetuning.loss == "dice-multilabel"
        assert preset.finetuning.transfer == "encoder+decoder"
        assert augmented(preset) == {"translation", "crop", "elastic"}
        assert preset.mr.normalize == preset.ct.normalize == "unit"
        assert preset.network.widths == (16, 32, 64, 128, 128, 128)
    task = PRESETS["umapathy-2022-regression"].stages[0].make_task()
    assert (task.kind, task.share, task.sigma) == ("masked-pixels", 0.1, 0.01)
    stages = PRESETS["umapathy-2022-contrastive"].stages
    assert [stage.task for stage in stages] == ["global-contrast", "local-contrast"]
    assert [stage.options["temperature"] for stage in stages] == [0.1, 0.1]


@pytest.mark.parametrize(
    ("name", "selection"),
    [("polycl-s", "scan"), ("polycl-o", "organ"), ("polycl-m", "scan+organ")],
)
def test_polycl(name, selection):
    preset = PRESETS[name]
    (stage,) = preset.stages
    task = preset.with_overrides(options={"organ_slices": {"a": (1,)}}).stages[0].make_task()
    assert (task.kind, task.selection, task.embedding) == ("polycl", selection, 256)
    assert task.temperature is None  # one over the batch size
    assert numbers(stage.settings.training) == (100, 20, 1e-4, "cosine-restarts", 0, "adam")
    fine = preset.finetuning
    assert numbers(fine.training) == (100, 10, 1e-3, "cosine-restarts", 0, "adam")
    assert stage.settings.training.restart_every == fine.training.restart_every == 10
    assert stage.settings.middle_share == fine.middle_share == 0.3
    assert (fine.loss, fine.transfer) == ("dice-per-sample", "encoder")
    assert not augmented(preset)
    assert (preset.ct.size, preset.ct.fit, preset.ct.normalize) == ((256, 256), "resize", "unit")
    assert [(w.width, w.level) for w in preset.ct.windows] == [(400, 40)]
    assert preset.network.kind == "multimix"


def test_dhere():
    preset = PRESETS["dhere-2019"]
    (stage,) = preset.stages
    assert (stage.task, stage.options["crop"]) == ("siamese", (64, 112, 112))
    assert stage.options["margin"] == 1
    assert stage.settings.validation_share == 0.2
    assert numbers(preset.finetuning.training) == (200, 1, 1e-3, "plateau", 1e-2, "adam")
    assert preset.finetuning.training.plateau_patience == 3
    assert preset.finetuning.loss == "bce-to-dice"
    assert preset.finetuning.reconstruction_weight == 0.1
    assert preset.finetuning.transfer == "encoder"
    assert not augmented(preset)
    assert preset.network.kind == "dense3d"
    assert isinstance(preset.ct, VolumePreprocessing)
    assert (preset.ct.spacing, preset.ct.size) == ((3.22, 1.62, 1.62), "whole")
    assert preset.ct.padding == "zero"
    assert [window.bounds for window in preset.ct.windows] == [(-80, 300)]


@pytest.mark.parametrize("name", PRESETS)
def test_settings_carry_the_name_network_and_preprocessing(name):
    preset = PRESETS[name]
    assert preset.name == name
    assert preset.decisions
    for modality in ("MR", "CT"):
        made = [preset.pretrain_settings(modality, n) for n in range(len(preset.stages))]
        made.append(preset.finetune_settings(modality))
        for settings in made:
            assert settings.preset == name
            assert settings.preprocessing.modality == modality
            assert settings.network == preset.network
            assert type(settings).model_validate(settings.model_dump()) == settings
    after = preset.finetune_settings(None)
    assert not {"network", "preprocessing"} & after.model_fields_set
    assert isinstance(preset.pretrain_settings(None), PretrainSettings)
    assert isinstance(after, FinetuneSettings)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    preset = PRESETS[name]
    again = Preset.model_validate(json.loads(preset.model_dump_json()))
    assert again == preset
    # In particular, network and preprocessing are still taken from a pretraining run.
    assert not {"network", "preprocessing"} & again.finetune_settings(None).model_fields_set


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_description(name):
    rows = dict(preset_rows(PRESETS[name]))
    assert {"Paper", "MR scans", "CT scans", "Network", "Transfer", "Fine-tuning"} <= set(rows)
    assert all(rows.values())


def test_description_by_hand():
    rows = dict(preset_rows(PRESETS["dhere-2019"]))
    assert rows["CT scans"].startswith("−80…300 HU, z-score over the scan, volumes, voxels of 3.22")
    schedule = rows["Schedule of the fine-tuning"]
    assert schedule.startswith("200 epochs, batch size 1, Adam at 0.001, weight decay")
    rows = dict(preset_rows(PRESETS["polycl-o"]))
    assert rows["CT scans"].endswith("scaled to 0…1, axial slices, resized to 256 × 256")
    assert "10 epochs" in rows["Schedule"]


def test_importing_presets_loads_no_torch():
    code = (
        "import sys; from napari_sslseg.core import PRESETS, pretrain_preset; import "
        "napari_sslseg.core.settings.presets.description; "
        "print('torch' in sys.modules, 'monai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_an_unknown_name_lists_all_names():
    with pytest.raises(ConfigError, match=r"jigsaw.*dominic-2023, .*dhere"):
        preset_named("jigsaw")


class TestOverrides:
    def test_overrides_take_precedence(self):
        preset = PRESETS["dominic-2023"].with_overrides(
            network=core.Network.preset("tiny"),
            preprocessing={"size": (64, 64), "plane": "coronal"},
            training={"steps": 5, "seed": 3},
            finetuning={"transfer": "encoder+decoder", "classes": (2, 1)},
            options={"patch_size": 8},
        )
        assert preset.stages[0].make_task().patch_size == 8
        for settings in (preset.pretrain_settings("CT"), preset.finetune_settings("CT")):
            assert (settings.training.steps, settings.training.epochs) == (5, None)
            assert (settings.training.seed, settings.training.batch_size) == (3, 9)
            assert (settings.preprocessing.size, settings.preprocessing.plane) == (
                (64, 64),
                "coronal",
            )
            assert settings.network == core.Network.preset("tiny")
        assert preset.finetuning.transfer == "encoder+decoder"
        assert preset.finetuning.classes == (1, 2)
        assert PRESETS["dominic-2023"].stages[0].settings.training.epochs == 100

    def test_an_option_goes_to_the_stages_that_have_it(self):
        preset = PRESETS["umapathy-2022-contrastive"].with_overrides(options={"parts": 7})
        assert preset.stages[0].options["parts"] == 7
        assert "parts" not in preset.stages[1].options

    @pytest.mark.parametrize(
        ("name", "changes", "words"),
        [
            ("polycl-s", {"options": {"patch_size": 8}}, "polycl has no option patch_size"),
            ("polycl-s", {"options": {"nonsense": 8}}, "No pretext task has an option nonsense"),
            ("polycl-s", {"preprocessing": {"size": (100, 100)}}, "multiples of 16"),
            ("polycl-s", {"training": {"batch_size": 0}}, "batch_size cannot be 0"),
            ("dhere-2019", {"preprocessing": {"plane": "axial"}}, "volumes, which have no plane"),
            ("dhere-2019", {"network": core.Network.preset("tiny")}, "takes slices, not volumes"),
            ("polycl-s", {"middle_share": 0}, "middle_share cannot be 0"),
        ],
    )
    def test_impossible_overrides_are_refused(self, name, changes, words):
        with pytest.raises(ConfigError, match=words):
            PRESETS[name].with_overrides(**changes)

    def test_an_organ_must_be_given(self):
        with pytest.raises(ConfigError, match="organ_slices"):
            PRESETS["polycl-o"].stages[0].make_task()


SHAPE = (20, 48, 44)


def scan(seed, modality="MR"):
    """Noise with a bright box in the middle slices, in the display grid."""
    rng = np.random.default_rng(seed)
    data = rng.normal(100, 20, SHAPE).astype(np.float32)
    labels = np.zeros(SHAPE, np.uint8)
    box = (slice(8, 14), slice(10, 30), slice(8 + seed, 26 + seed))
    data[box] += 200
    labels[box] = 7
    affine = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1.0]])
    geometry = Geometry(affine, SHAPE)
    name = f"case{seed}"
    return Volume(data, geometry, modality, name, name), Volume(labels, geometry, None, name, name)


def tiny(name, steps=3):
    """The preset with a small network and a short training."""
    preset = PRESETS[name]
    options = {}
    if preset.stages[0].task == "context-restoration":
        options["patch_size"] = 8
    if "selection" in preset.stages[0].options:
        options["organ_slices"] = {f"case{n}": tuple(range(8, 10)) for n in range(3)}
    return preset.with_overrides(
        network=preset.network.model_copy(update={"widths": (8, 16, 16)}),
        preprocessing={"size": (64, 48)},
        training={"steps": steps, "batch_size": 4},
        options=options,
    )


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("name", FLAT)
def test_each_preset_of_slices_runs(tmp_path, name, modality):
    preset = tiny(name)
    if not {stage.task for stage in preset.stages} <= set(TASKS):
        pytest.skip("a task of this preset is not there yet")
    scans = [scan(seed, modality)[0] for seed in range(3)]
    pretrained = core.pretrain_preset(scans, preset, out=tmp_path / "pre")
    assert pretrained.record["settings"]["preset"] == name
    assert pretrained.record["settings"]["training"]["steps"] == 3
    labelled = [core.LabelledScan(*scan(seed, modality)) for seed in range(2)]
    run = core.finetune_preset(
        labelled,
        preset,
        init=pretrained,
        out=tmp_path / "ft",
        validation=[core.LabelledScan(*scan(3, modality))],
    )
    assert run.record["settings"]["preset"] == name
    assert run.record["transfer"]["copied"]
    assert load_segmenter(run).loss == preset.finetuning.loss
    prediction = core.predict(run, scan(4, modality)[0])
    assert prediction.labels.shape == SHAPE
    assert set(np.unique(prediction.labels)) <= {0, 7}
    np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-4)
    np.testing.assert_array_equal(prediction.labels == 7, prediction.probabilities.argmax(0) == 1)


@pytest.mark.parametrize("name", ["dominic-2023", pytest.param("polycl-s", marks=pytest.mark.slow)])
def test_sigmoid_losses_find_a_structure(tmp_path, name):
    preset = tiny(name, steps=80).with_overrides(
        training={"learning_rate": 5e-3, "schedule": "constant"}, middle_share=0.3
    )
    labelled = [core.LabelledScan(*scan(seed)) for seed in range(2)]
    run = core.finetune_preset(labelled, preset, out=tmp_path)
    image, truth = scan(4)
    # Dice without cross entropy learns little about slices without the structure.
    held = slice(8, 12)
    found, there = core.predict(run, image).labels[held] == 7, truth.data[held] == 7
    assert 2 * (found & there).sum() / (found.sum() + there.sum()) > 0.9


def test_the_record_has_the_steps_of_the_epochs(tmp_path):
    preset = tiny("polycl-s").with_overrides(training={"steps": 1, "epochs": 2})
    scans = [scan(seed)[0] for seed in range(3)]
    run = core.pretrain_preset(scans, preset, out=tmp_path)
    # The middle 30 % of 20 slices are 5; there are three scans, and four slices per step.
    assert run.record["slices"]["training"] == 15
    training = run.record["settings"]["training"]
    assert (training["epochs"], training["steps"]) == (2, 8)
    assert len([row for row in run.metrics() if "loss" in row]) == 8


def test_a_patch_too_large_names_one_that_fits(tmp_path):
    preset = tiny("dominic-2023").with_overrides(options={"patch_size": 64})
    with pytest.raises(ConfigError, match="27 pixels"):
        core.pretrain_preset([scan(1)[0]], preset, out=tmp_path)


class TestTwoStages:
    """How one stage follows the other, without running the tasks."""

    def events(self, monkeypatch, tmp_path, stop_first=False):
        calls = []

        def fake(context, scans, task, settings):
            calls.append({"out": context.out, "init": context.init, "settings": settings})
            yield Message(f"task {task.kind}")
            record = {"kind": "pretrain", "settings": settings.model_dump(mode="json")}
            yield Done(core.Run(Path(f"run {len(calls)}"), record), stopped=stop_first)

        monkeypatch.setattr(preset_runs, "pretrain_in", fake)
        first = PRESETS["umapathy-2022-contrastive"]
        second = first.stages[1].model_copy(update={"task": "masked-pixels", "options": {}})
        preset = first.model_copy(update={"stages": (first.stages[0], second)})
        found = core.iter_pretrain_preset([scan(1)[0]], preset, out=tmp_path / "o", stop=StopFlag())
        return calls, list(found)

    def test_the_second_starts_from_the_first(self, monkeypatch, tmp_path):
        calls, events = self.events(monkeypatch, tmp_path)
        assert [call["out"] for call in calls] == [tmp_path / "o" / "first-stage", tmp_path / "o"]
        assert calls[0]["init"] is None
        assert calls[1]["init"].folder == Path("run 1")
        assert calls[0]["settings"].preprocessing == PRESETS["umapathy-2022-contrastive"].mr
        assert "network" not in calls[1]["settings"].model_fields_set
        assert calls[1]["settings"].preprocessing == PRESETS["umapathy-2022-contrastive"].mr
        texts = [event.text for event in events if isinstance(event, Message)]
        assert texts[0].startswith("Stage 1 of 2: global-contrast")
        assert texts[2].startswith("Stage 2 of 2: masked-pixels")
        done = [event.result.folder for event in events if isinstance(event, Done)]
        assert done == [Path("run 2")]

    def test_a_stop_in_the_first_ends_all(self, monkeypatch, tmp_path):
        calls, events = self.events(monkeypatch, tmp_path, stop_first=True)
        assert len(calls) == 1
        assert isinstance(events[-1], Done)
        assert (events[-1].result.folder, events[-1].stopped) == (Path("run 1"), True)
