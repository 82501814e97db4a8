"""Training states on disk: damage is detected, and the state before is used instead."""

import json
import shutil

import pytest
import torch

from napari_sslseg.core.common.compute.randomness import random_states
from napari_sslseg.core.common.errors import CheckpointError, StorageError
from napari_sslseg.core.common.events import Message
from napari_sslseg.core.runs.states.state import State
from napari_sslseg.core.runs.states.state_check import check_state, optimizer_state
from napari_sslseg.core.runs.states.state_files import (
    newest_state,
    read_state,
    remove_states,
    state_name,
    write_state,
)
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.training.schedules import EarlyStopper, Schedule, make_optimizer

TENSORS = {
    "model.a": torch.arange(6.0).reshape(2, 3),
    "model.b": torch.tensor(3, dtype=torch.int64),
    "optimizer.0.exp_avg": torch.randn(5).to(torch.bfloat16),
    "random.draws": torch.Generator().get_state(),
    "model.none": torch.zeros(0, 4),
}
NUMBERS = {"rate": 0.1 + 0.2, "best": float("inf"), "sampler": {"state": 2**127 + 1}}


def write(folder, *steps):
    for step in steps:
        write_state(folder, State(step, TENSORS, NUMBERS))
        (folder / "last.json").write_text(json.dumps({"state": state_name(step)}))


def newest(folder, training=None):
    messages, state = [], None
    events = newest_state(folder, training)
    while True:
        try:
            messages.append(next(events))
        except StopIteration as end:
            state = end.value
            break
    assert all(isinstance(event, Message) for event in messages)
    return state, [event.text for event in messages]


def test_a_state_is_read_back_bit_for_bit(tmp_path):
    write(tmp_path, 7)
    state, messages = newest(tmp_path)
    assert not messages
    assert state.step == 7
    assert set(state.tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert state.tensors[name].dtype == tensor.dtype
        assert torch.equal(state.tensors[name], tensor)
    assert {name: state.numbers[name] for name in NUMBERS} == NUMBERS
    assert set(state.part("model")) == {"a", "b", "none"}


def test_the_newest_two_states_are_kept(tmp_path):
    write(tmp_path, 5, 10, 15, 100)
    names = sorted(path.name for path in (tmp_path / "states").iterdir())
    assert names == [state_name(15), state_name(100)]
    assert newest(tmp_path)[0].step == 100
    remove_states(tmp_path)
    assert not (tmp_path / "states").exists()


def test_states_are_neither_written_nor_removed_through_a_link(tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    write(run, 5, 10)
    other.mkdir()
    (other / state_name(1)).write_text("somebody's")
    (run / "states").rename(tmp_path / "moved")
    (run / "states").symlink_to(other)
    with pytest.raises(StorageError, match="is a link"):
        write(run, 15)
    assert [path.read_text() for path in other.iterdir()] == ["somebody's"]


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 0x40
    path.write_bytes(data)


@pytest.mark.parametrize("place", [0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_a_wrong_byte_anywhere_is_detected(tmp_path, place):
    write(tmp_path, 5, 10)
    damaged = tmp_path / "states" / state_name(10)
    flip(damaged, place)
    with pytest.raises(CheckpointError, match="is damaged"):
        read_state(damaged)
    state, (message,) = newest(tmp_path)
    assert state.step == 5
    assert "from step 5" in message
    assert "damaged" in message
    assert not damaged.exists()
    # The damaged file is kept until the run is finished.
    assert damaged.with_name(f"{damaged.name}.damaged").exists()
    remove_states(tmp_path)
    assert not damaged.parent.exists()


@pytest.mark.parametrize("size", [0, 3, 100, -1])
def test_a_truncated_state_is_replaced_by_the_one_before(tmp_path, size):
    write(tmp_path, 5, 10)
    damaged = tmp_path / "states" / state_name(10)
    damaged.write_bytes(damaged.read_bytes()[:size])
    state, (message,) = newest(tmp_path)
    assert state.step == 5
    assert message.count(".") < 6
    assert state_name(10) in message


def test_a_missing_state_is_replaced_by_the_one_before(tmp_path):
    write(tmp_path, 5, 10)
    (tmp_path / "states" / state_name(10)).unlink()
    state, (message,) = newest(tmp_path)
    assert state.step == 5
    assert "is missing" in message


@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_an_error_is_raised_if_no_state_is_left(tmp_path, how):
    write(tmp_path, 5, 10)
    if how == "missing":
        shutil.rmtree(tmp_path / "states")
    else:
        for path in (tmp_path / "states").iterdir():
            path.write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match=r"no other state .*--overwrite"):
        newest(tmp_path)


def test_a_run_without_saved_states_has_no_newest_state(tmp_path):
    assert newest(tmp_path) == (None, [])


def test_a_run_of_an_older_version_is_refused(tmp_path):
    (tmp_path / "last.json").write_text('{"step": 3}')
    with pytest.raises(CheckpointError, match="--init"):
        newest(tmp_path)


def test_a_state_of_a_newer_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sslseg.core.runs.states.state_files.FORMAT", 99)
    write(tmp_path, 5)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="newer version"):
        read_state(tmp_path / "states" / state_name(5))


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "states").iterdir()}


def test_states_of_a_newer_version_are_not_renamed(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sslseg.core.runs.states.state_files.FORMAT", 99)
    write(tmp_path, 5, 10)
    monkeypatch.undo()
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match="newer version"):
        newest(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "place", ["safetensors.safe_open", "napari_sslseg.core.runs.states.state_files.open_regular"]
)
def test_temporarily_unreadable_states_are_not_renamed(tmp_path, monkeypatch, place):
    write(tmp_path, 5, 10)
    before = contents(tmp_path)

    def broken(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(place, broken)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\)"):
        newest(tmp_path)
    monkeypatch.undo()
    assert contents(tmp_path) == before
    assert newest(tmp_path)[0].step == 10


TRAINING = Training(steps=10, batch_size=4)


def trained(training=TRAINING):
    """Train a small network for four steps; return its state and its optimiser."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = make_optimizer(model, training)
    schedule = Schedule(optimizer, training, 2, "lower")
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().mean().backward()
        optimizer.step()
        schedule.step()
    saved = optimizer.state_dict()
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for number, held in saved["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in held.items()}
    random = {"draws": torch.Generator().get_state(), **random_states(torch.device("cpu"))}
    tensors |= {f"random.{name}": value for name, value in random.items()}
    numbers = {
        "optimizer": {"groups": saved["param_groups"], "values": {}},
        "schedule": schedule.state_dict(),
        "patience": EarlyStopper(None, "lower").state_dict(),
        "precision": {},
        "drawn": 4,
        "sampler": {"generator": {"state": 2**127 + 1}, "sum": 1},
        "parts": 1,
        "rows": 5,
        "row": {"step": 4, "loss": 0.5, "learning_rate": 1e-3},
        "processes": 1,
    }
    return State(4, tensors, numbers), optimizer


def test_the_scale_of_mixed_precision_is_restored():
    state, optimizer = trained()
    scale = torch.amp.GradScaler("cpu").state_dict()
    state = State(4, state.tensors, state.numbers | {"precision": scale})
    check_state(state, TRAINING)
    optimizer_state(state, optimizer, scale, torch.device("cpu"))
    # A state without a scale is accepted.
    optimizer_state(state, optimizer, {}, torch.device("cpu"))


def set_in(values, place, value):
    *outer, last = place.split("/")
    for name in outer:
        values = values[int(name) if isinstance(values, list) else name]
    if value is KeyError:
        del values[last]
    else:
        values[last] = value


STRANGE = [
    ("optimizer", KeyError), ("schedule", []), ("schedule/last_epoch", "x"),
    ("schedule/_step_count", "y"), ("schedule/last_epoch", 5), ("drawn", 10**15), ("drawn", 5),
    ("drawn", -1), ("optimizer/groups/0/lr", "fast"), ("optimizer/groups/0/lr", float("inf")),
    ("optimizer/values", {"0": {"step": "x"}}), ("optimizer/values", {"x": {}}), ("parts", 0),
    ("parts", 5), ("parts", True), ("rows", "x"), ("rows", 9), ("row", {"a\x1b[2J": 1}),
    ("row/loss", float("nan")), ("processes", 0), ("processes", 2), ("patience/best", float("nan")),
    ("patience/waited", 1.5), ("precision", {"scale": "x"}), ("sampler", 3),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value"), STRANGE)
def test_invalid_numbers_count_as_damage(tmp_path, place, value):
    write(tmp_path, 2)
    state, _ = trained()
    check_state(state, TRAINING)
    numbers = json.loads(json.dumps(state.numbers))
    set_in(numbers, place, value)
    damaged = write_state(tmp_path, State(4, state.tensors, numbers))
    with pytest.raises(CheckpointError, match=r"is damaged \(.* no other state") as caught:
        newest(tmp_path, TRAINING)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert damaged.with_name(f"{damaged.name}.damaged").exists()


@pytest.mark.parametrize(
    "tensors",
    [
        {"random.cpu": torch.zeros(3)},
        {"random.draws": torch.zeros(5056, dtype=torch.uint8)},
        {"model.weight": torch.full((2, 3), float("nan"))},
    ],
)
def test_invalid_tensors_count_as_damage(tensors):
    state, _ = trained()
    with pytest.raises(ValueError, match=r"weight|random"):
        check_state(State(4, state.tensors | tensors, state.numbers), TRAINING)


def test_a_state_beyond_the_end_or_of_another_step_is_damaged(tmp_path):
    state, _ = trained()
    with pytest.raises(ValueError, match="step: 4"):
        check_state(State(4, state.tensors, state.numbers | {"step": 4}), Training(steps=3))
    path = write_state(tmp_path, state)
    path.rename(path.with_name(state_name(7)))
    with pytest.raises(CheckpointError, match="of step 4"):
        newest(tmp_path, TRAINING)


def test_only_learning_rates_are_restored_into_parameter_groups():
    state, optimizer = trained()
    state.numbers["optimizer"]["groups"][0] |= {"lr": 0.25, "betas": "x", "fused": 7}
    found = optimizer_state(state, optimizer, {}, torch.device("cpu"))
    assert found["param_groups"][0]["lr"] == 0.25
    assert found["param_groups"][0]["betas"] == (0.9, 0.999)
    optimizer.load_state_dict(found)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"optimizer.0.exp_avg": torch.zeros(7)}, "another exp_avg of weight 0"),
        ({"optimizer.0.exp_avg": torch.zeros(2, 3, dtype=torch.int64)}, "another exp_avg"),
        ({"optimizer.0.step": torch.zeros(3)}, "another step"),
        ({"optimizer.9.step": torch.tensor(1.0)}, "other values"),
        ({"optimizer.1.other": torch.tensor(1.0)}, "other values"),
        ({"optimizer.x.step": torch.tensor(1.0)}, r"x\.step"),
        ({f"optimizer.{'9' * 5000}.step": torch.tensor(1.0)}, "999"),
    ],
)
def test_the_state_of_another_optimiser_is_refused(tensors, reason):
    state, optimizer = trained()
    with pytest.raises(ValueError, match=reason):
        optimizer_state(
            State(4, state.tensors | tensors, state.numbers), optimizer, {}, torch.device("cpu")
        )
    with pytest.raises(ValueError, match="precision"):
        optimizer_state(state, optimizer, {"scale": 1.0}, torch.device("cpu"))


def test_only_the_position_of_a_schedule_is_restored():
    _, optimizer = trained()
    schedule = Schedule(optimizer, TRAINING, 2, "lower")
    schedule.load_state_dict({"last_epoch": 3, "_step_count": 4, "step": "x", "base_lrs": ["x"]})
    schedule.step()
    assert schedule.state_dict()["last_epoch"] == 4


def test_a_damaged_last_file_is_ignored(tmp_path):
    write(tmp_path, 5)
    for text in ("[" * 200_000, '{"state": "\\u001b[2J"}', '{"state": "' + "9" * 999 + '"}'):
        (tmp_path / "last.json").write_text(text)
        state, messages = newest(tmp_path)
        assert state.step == 5
        assert not messages
