"""What a user of Python sees: explained fields, errors in a sentence, types of results."""

import inspect
import re

import pytest

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError, SslsegError
from napari_sslseg.core.common.settings_base import Settings

EXPORTED = [
    value
    for name in core.__all__
    if isinstance(value := getattr(core, name), type) and issubclass(value, Settings)
]


def test_there_are_settings_to_check():
    assert {core.Training, core.SelfTraining, core.ContextRestoration} <= set(EXPORTED)


@pytest.mark.parametrize("settings", EXPORTED, ids=lambda kind: kind.__name__)
def test_the_docstring_explains_every_field(settings):
    text = inspect.getdoc(settings)
    for name in settings.model_fields:
        if name == "kind":
            continue
        found = re.search(rf"^(.*, )?{name}(, .*)? : .+\n +\S", text, re.MULTILINE)
        assert found, name


def test_limits_and_defaults_are_in_the_docstring():
    text = inspect.getdoc(core.Training)
    part = text[text.index("steps : int") :].split("epochs :")[0]
    assert "default 500" in part
    assert "at least 1" in part
    assert "'adam', 'sgd'" in text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: core.Training(steps=-1), "steps cannot be -1"),
        (lambda: core.Training(step=5), "step"),
        (lambda: core.FinetuneSettings(training={"steps": -2}), "training.steps"),
        (lambda: core.Network.preset("enormous"), "enormous"),
        (lambda: core.pretrain(".", "jigsaw", out="unused"), "jigsaw"),
        (lambda: core.finetune("images", out="unused"), "pair_scans"),
    ],
)
def test_an_invalid_setting_is_an_error_of_ours_in_one_line(make, words):
    with pytest.raises(SslsegError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_self_training_needs_no_second_setting():
    settings = core.FinetuneSettings(self_training=core.SelfTraining())
    assert settings.average_decay == 0.99
    assert core.FinetuneSettings().average_decay == 0
    own = core.FinetuneSettings(self_training=core.SelfTraining(), average_decay=0.9)
    assert own.average_decay == 0.9
    with pytest.raises(ConfigError, match="average_decay"):
        core.FinetuneSettings(self_training=core.SelfTraining(), average_decay=0)


def test_functions_say_what_they_return():
    for function in (core.pretrain, core.finetune, core.pretrain_preset, core.finetune_preset):
        assert inspect.signature(function).return_annotation is core.Run
    assert inspect.signature(core.Project.add_scans).return_annotation is core.AddedScans


def test_a_labelled_scan_takes_text_and_knows_its_subject(tmp_path):
    core.write_dataset(tmp_path, 1, "MR")
    (image,), (labels,) = (sorted((tmp_path / kind).iterdir()) for kind in ("images", "labels"))
    item = core.LabelledScan(str(image), str(labels))
    assert item.subject == core.load_volume(image).subject
    scan, truth = item.load()
    assert scan.data.shape == truth.data.shape


def test_an_evaluation_is_readable(tmp_path):
    core.write_dataset(tmp_path, 2, "MR")
    found = core.evaluate_folders(tmp_path / "labels", tmp_path / "labels")
    assert isinstance(found, core.Evaluation)
    lines = repr(found).splitlines()
    assert "2 volumes: mean Dice 1.000" in lines[0]
    assert any("liver: Dice 1.000" in line for line in lines)
