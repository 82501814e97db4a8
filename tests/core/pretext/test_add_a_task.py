import re
from typing import ClassVar, Literal

import pytest
from pydantic import TypeAdapter, ValidationError

from napari_sslseg import core
from napari_sslseg.core.common.errors import CheckpointError, ConfigError
from napari_sslseg.core.settings.pretext.base import PretextSettings
from napari_sslseg.core.settings.pretext.context_patches import ContextRestoration
from napari_sslseg.core.settings.pretext.registry import TASKS, TaskSettings, make_task
from paths import DOCS
from small_scans import write_small_scans

TINY = core.Network.preset("tiny")


@pytest.fixture
def unregister():
    """Undo the registration of tasks at the end of the test."""
    before = dict(TASKS)
    yield
    TASKS.clear()
    TASKS.update(before)


@pytest.fixture
def sharpen(unregister, tmp_path, monkeypatch):
    """Run the code of the page and return its variables, with the run that it trains."""
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "how-to" / "add-a-pretext-task.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.S))
    names = {"__name__": "sharpen"}
    exec(compile(code, "add-a-pretext-task.md", "exec"), names)
    return names


def test_the_task_of_the_docs_page_trains_and_its_run_opens(sharpen, tmp_path):
    run = core.Run.open("sharpen", "pretrain")
    assert run.task() == sharpen["Sharpen"](widest=2)
    assert run.task().summary == "widest 2"
    assert run.record["status"] == "finished"
    assert len(run.metrics()) >= 1
    scans = write_small_scans(tmp_path / "scans", 1)
    again = core.pretrain(
        scans,
        make_task("sharpen"),
        init=run,
        out=tmp_path / "second",
        settings=core.PretrainSettings(training=core.Training(steps=2, batch_size=4)),
    )
    assert again.task().kind == "sharpen"
    scan, labels = core.make_patient(0, "MR", (12, 48, 48), (16.0, 7.5, 7.5))
    tuned = core.finetune(
        [core.LabelledScan(scan, labels)],
        init=again,
        out=tmp_path / "tuned",
        settings=core.FinetuneSettings(training=core.Training(steps=2, batch_size=4)),
    )
    assert core.predict(tuned, scan).labels.shape == scan.data.shape


def test_an_external_task_has_a_preview(sharpen, tmp_path):
    from napari_sslseg.core.pretext.pictures.preview import draw_preview

    scans = write_small_scans(tmp_path / "scans", 1)
    out = draw_preview(scans, out=tmp_path / "sharpen.png", init="sharpen")
    assert out.stat().st_size > 1000


def test_a_run_of_an_unregistered_task_is_refused_with_all_names(sharpen):
    del TASKS["sharpen"]
    with pytest.raises(CheckpointError, match=r"sharpen.*context-restoration.*siamese"):
        core.Run.open("sharpen").task()


def test_an_unknown_task_is_refused_with_all_names():
    with pytest.raises(ConfigError) as error:
        make_task("jigsaw")
    assert all(name in str(error.value) for name in ("jigsaw", *TASKS))
    with pytest.raises(ValidationError, match=r"context-restoration.*siamese"):
        TypeAdapter(TaskSettings).validate_python({"kind": "jigsaw"})


def test_a_name_is_registered_once(unregister):
    assert core.register_task(ContextRestoration) is ContextRestoration

    class Other(PretextSettings):
        kind: Literal["context-restoration"] = "context-restoration"
        title: ClassVar[str] = "Another"

    with pytest.raises(ConfigError, match="context-restoration"):
        core.register_task(Other)

    class Nameless(PretextSettings):
        title: ClassVar[str] = "Nameless"

    with pytest.raises(TypeError, match="kind"):
        core.register_task(Nameless)


def test_settings_of_a_registered_task_survive_json(unregister):
    @core.register_task
    class Toy(PretextSettings):
        kind: Literal["toy"] = "toy"
        title: ClassVar[str] = "Toy"
        width: int = 3

    adapter = TypeAdapter(TaskSettings)
    assert adapter.validate_json(Toy(width=4).model_dump_json()) == Toy(width=4)
    with pytest.raises(ConfigError, match="width"):
        make_task("toy", width="large")
