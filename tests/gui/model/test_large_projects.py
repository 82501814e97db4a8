"""The window stays fast for projects with very large records."""

import json

import pytest

from napari_sslseg.core.common.errors import ProjectError
from napari_sslseg.core.project import record as project_record
from napari_sslseg.core.project.project import Project
from napari_sslseg.core.project.record import ScanEntry
from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.train.training_choice import TrainingChoice, refusal
from scene_project import write_project


def with_claims(folder, count, slices):
    """Add scans to the record of a project, with all slices recorded as done."""
    path = folder / "project.json"
    record = json.loads(path.read_text())
    entry = record["scans"][0] | {"shape": [slices, 1, 1], "done": f"0-{slices - 1}"}
    record["scans"] += [
        entry | {"name": f"s{n}", "subject": f"p{n}", "content": f"{n:032x}"} for n in range(count)
    ]
    path.write_text(json.dumps(record))
    return path


def test_recorded_slices_are_counted_without_listing_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = write_project(tmp_path)
    path = with_claims(folder, 4_900, 100_000)
    with monkeypatch.context() as context:
        # Listing the slices took minutes.
        context.setattr(project_record, "parse_ranges", lambda *_: pytest.fail("listed"))
        with pytest.raises(ProjectError, match="more than 5,000,000 slices"):
            Project.open(folder)
    record = json.loads(path.read_text())
    del record["scans"][2:]
    path.write_text(json.dumps(record))
    with_claims(folder, 4_990, 1_000)
    session = Session()
    assert session.open(folder)
    assert session.project.entry("s7").done_count == len(session.project.done("s7")) == 1_000
    # What the window computes at each change does not list them.
    monkeypatch.setattr(ScanEntry, "done_slices", property(lambda entry: 1 / 0))
    assert session.summary()["done"] == 4_990 * 1_000
    assert session.next_step()
    refusal(session, TrainingChoice())
    session.close()
