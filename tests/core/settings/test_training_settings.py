import inspect

import pytest

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.settings.augmentation import Augmentation
from napari_sslseg.core.settings.networks import Dense3dNetwork, DynUNet3dNetwork, Network
from napari_sslseg.core.settings.preprocessing import VolumePreprocessing
from napari_sslseg.core.settings.presets.registry import PRESETS
from napari_sslseg.core.settings.self_training import SelfTraining
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings
from napari_sslseg.core.settings.training import (
    BATCH_SIZE,
    FINETUNE_STEPS,
    LEARNING_RATE,
    PRETRAIN_STEPS,
    VOLUME_BATCH_SIZE,
    Training,
    default_training,
)

STAGES = (PretrainSettings, FinetuneSettings)


def test_defaults_of_both_stages():
    pretrain, finetune = PretrainSettings().training, FinetuneSettings().training
    assert (pretrain.steps, finetune.steps) == (PRETRAIN_STEPS, FINETUNE_STEPS) == (1000, 400)
    assert pretrain.learning_rate == finetune.learning_rate == LEARNING_RATE == 1e-3
    assert pretrain.batch_size == finetune.batch_size == BATCH_SIZE == 16
    assert (pretrain.gradient_clip, finetune.gradient_clip) == (None, 12.0)
    assert default_training("pretrain") == pretrain
    assert default_training("finetune") == finetune


def test_default_training_takes_other_values_and_skips_none():
    found = default_training("finetune", 3, steps=7, learning_rate=None, seed=4)
    assert (found.steps, found.learning_rate, found.seed) == (7, LEARNING_RATE, 4)
    assert (found.batch_size, found.gradient_clip) == (VOLUME_BATCH_SIZE, 12.0)
    with pytest.raises(ConfigError, match="steps"):
        default_training("finetune", steps=0)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("network", [Dense3dNetwork(), DynUNet3dNetwork()])
def test_default_batch_of_volumes_is_two(stage, network):
    assert stage(network=network).training.batch_size == VOLUME_BATCH_SIZE == 2
    kept = Training(steps=3)
    training = stage(network=network, training=kept).training
    assert (training.steps, training.batch_size) == (3, 2)
    assert kept.batch_size == 16
    assert stage().training.batch_size == 16
    assert stage(network=network, training=Training(batch_size=16)).training.batch_size == 16


@pytest.mark.parametrize("stage", STAGES)
def test_batch_size_follows_the_network_of_the_run_to_start_from(stage):
    volumes = stage().with_network(Dense3dNetwork(), VolumePreprocessing())
    assert volumes.training.batch_size == 2
    assert volumes.with_network(Network(), None).training.batch_size == 16
    set_by_user = stage(training=Training(batch_size=5))
    changed = set_by_user.with_network(Dense3dNetwork(), VolumePreprocessing())
    assert changed.training.batch_size == 5


@pytest.mark.parametrize("stage", STAGES)
def test_records_keep_their_batch_size(stage):
    settings = stage(network=Dense3dNetwork(), training=Training(batch_size=16))
    assert stage.model_validate_json(settings.model_dump_json()) == settings
    settings = stage(network=Dense3dNetwork())
    assert stage.model_validate_json(settings.model_dump_json()) == settings


def test_presets_keep_their_batch_size():
    preset = PRESETS["dhere-2019"]
    assert preset.network.dimensions == 3
    for modality in ("MR", "CT", None):
        assert preset.pretrain_settings(modality).training.batch_size == 1
        assert preset.finetune_settings(modality).training.batch_size == 1


def test_a_training_of_the_user_takes_the_other_defaults_from_its_stage():
    mine = Training(learning_rate=1e-4)
    pretrain, finetune = PretrainSettings(training=mine), FinetuneSettings(training=mine)
    assert (pretrain.training.steps, pretrain.training.gradient_clip) == (PRETRAIN_STEPS, None)
    assert (finetune.training.steps, finetune.training.gradient_clip) == (FINETUNE_STEPS, 12.0)
    assert finetune.training == default_training("finetune", learning_rate=1e-4)
    assert mine == Training(learning_rate=1e-4)
    assert FinetuneSettings(training={"steps": 5}).training.gradient_clip == 12.0
    # Those of one stage, given to the other one.
    assert FinetuneSettings(training=pretrain.training).training == finetune.training


def test_none_that_the_user_sets_stays():
    off = FinetuneSettings(training=Training(gradient_clip=None)).training
    assert off.gradient_clip is None
    other = FinetuneSettings(training=Training(gradient_clip=1.0)).with_network(Network(), None)
    assert other.training.gradient_clip == 1.0
    unclipped = FinetuneSettings(training=off).with_network(Dense3dNetwork(), VolumePreprocessing())
    assert (unclipped.training.gradient_clip, unclipped.training.batch_size) == (None, 2)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("fields", [{}, {"epochs": 3}, {"gradient_clip": None}, {"steps": 7}])
def test_records_keep_the_training(stage, fields):
    settings = stage(training=Training(**fields))
    assert stage.model_validate_json(settings.model_dump_json()) == settings
    assert stage(**settings.model_dump()) == settings


def test_presets_of_papers_do_not_clip():
    for preset in PRESETS.values():
        assert preset.finetune_settings("MR").training.gradient_clip is None
        changed = preset.with_overrides(training={"steps": 5})
        assert changed.finetune_settings("MR").training.gradient_clip is None


def test_help_says_where_a_default_depends_on_the_stage():
    text = " ".join(inspect.getdoc(Training).split())
    assert f"if not set, {PRETRAIN_STEPS} in the pretraining and {FINETUNE_STEPS}" in text
    assert "if not set, 12 in the fine-tuning" in text.lower()


def test_an_augmentation_of_unlabelled_slices_takes_their_other_defaults():
    usual, strong = Augmentation(rotation=5), SelfTraining().augmentation
    mine = SelfTraining(augmentation=usual)
    assert mine.augmentation == strong.model_copy(update={"rotation": 5.0})
    assert usual == Augmentation(rotation=5)
    assert SelfTraining(augmentation=Augmentation(gamma=0)).augmentation.gamma == 0
    assert SelfTraining(augmentation=None).augmentation is None
    assert SelfTraining.model_validate_json(mine.model_dump_json()) == mine
    settings = FinetuneSettings(augmentation=usual, self_training={"augmentation": {"crop": 0}})
    assert settings.augmentation == usual
    assert settings.self_training.augmentation == strong.model_copy(update={"crop": 0.0})
