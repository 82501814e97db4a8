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


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: core.finetune("a", "b"), "core.pair_scans(images, labels), out="),
        (lambda: core.finetune([("a", "b")], out="unused"), "core.LabelledScan(scan, labels)"),
        (lambda: core.pretrain("a"), "'out'"),
        (lambda: core.pretrain("a", out="unused", overwite=True), "Did you mean overwrite?"),
        (lambda: core.pretrain("a", out="unused", settings=core.Training()), "(training=…)"),
        (
            lambda: core.finetune([], out="unused", settings=core.PretrainSettings()),
            "core.FinetuneSettings",
        ),
        (lambda: core.Training(step=5), "Did you mean steps?"),
        (lambda: core.FinetuneSettings(training={"step": 5}), "Did you mean steps?"),
        (lambda: core.PretrainSettings(network="tinny"), "Did you mean tiny?"),
        (lambda: core.preset_named("dominic-2013"), "Did you mean dominic-2023?"),
        (lambda: core.pretrain("a", "context-restore", out="b"), "mean context-restoration?"),
    ],
)
def test_an_error_says_what_to_write_instead(make, words):
    with pytest.raises(ConfigError) as caught:
        make()
    assert words in str(caught.value)
    assert "?." not in str(caught.value)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
@pytest.mark.parametrize(
    ("name", "value", "inside"),
    [
        ("steps", 5, "training=core.Training(steps=5)"),
        ("learning_rate", 0.1, "training=core.Training(learning_rate=0.1)"),
        ("seed", 3, "training=core.Training(seed=3)"),
        ("network", "tiny", "network='tiny'"),
        ("plane", "coronal", "preprocessing=core.Preprocessing(plane='coronal')"),
        ("size", (64, 64), "preprocessing=core.Preprocessing(size=(64, 64))"),
    ],
)
def test_a_setting_given_as_an_argument_gets_its_place(stage, name, value, inside):
    model = core.PretrainSettings if stage == "pretrain" else core.FinetuneSettings
    with pytest.raises(ConfigError) as caught:
        getattr(core, stage)([], out="unused", **{name: value})
    assert f"write settings=core.{model.__name__}({inside})" in str(caught.value)
    assert "Did you mean" not in str(caught.value)
    made = eval(f"dict({inside})", {"core": core})
    assert model(**made)
    if name != "network":
        with pytest.raises(ConfigError) as caught:
            model(**{name: value})
        assert f"write {inside}." in str(caught.value)


def test_a_wrong_call_is_also_a_type_error():
    with pytest.raises(TypeError):
        core.pretrain()


def test_a_network_may_be_given_by_its_name():
    for stage in (core.PretrainSettings, core.FinetuneSettings):
        settings = stage(network="tiny")
        assert settings.network == core.Network.preset("tiny")
        assert stage.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (core.pretrain, "Run"),
        (core.finetune, "Run"),
        (core.pretrain_preset, "Run"),
        (core.finetune_preset, "Run"),
        (core.Project.add_scans, "AddedScans"),
        (core.Project.problems, "dict"),
    ],
)
def test_help_says_what_a_function_returns(function, result):
    text = inspect.getdoc(function)
    assert re.search(rf"^Returns\n-------\n{result}", text, re.MULTILINE)
    assert "Yields" not in text
    if function is not core.Project.problems:
        assert "Parameters" in text


def test_help_of_the_core_names_everything_in_the_order_of_the_work():
    text = inspect.getdoc(core)
    named = re.findall(r"``(\w+)``", text)
    assert set(core.__all__) <= set(named)
    order = [named.index(name) for name in ("load_volume", "PretrainSettings", "pretrain")]
    order += [named.index(name) for name in ("finetune", "predict", "evaluate", "Project")]
    assert order == sorted(order)


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


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: core.Preprocessing(size=64), r"write \(64, 64\)"),
        (lambda: core.VolumePreprocessing(size=64), r"write \(64, 64, 64\)"),
        (lambda: core.FinetuneSettings(classes=3), r"write \(3,\)"),
        (lambda: core.PretrainSettings(preprocessing="axial"), r"Preprocessing\(…\) or Vol"),
        (lambda: core.PretrainSettings(network=core.Network), r"write Network\(\)"),
        (lambda: core.PretrainSettings(preprocessing={"kind": "x"}), "'slices', 'volumes'"),
    ],
)
def test_a_setting_of_a_wrong_type_is_refused_with_an_example(make, hint):
    with pytest.raises(core.SslsegError, match=hint):
        make()
