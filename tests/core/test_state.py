"""States on disk: whole or found damaged, and the one before in reserve."""

import json
import shutil

import pytest
import torch

from napari_sslseg.core.errors import CheckpointError
from napari_sslseg.core.events import Message
from napari_sslseg.core.state import (
    State,
    newest_state,
    read_state,
    remove_states,
    state_name,
    write_state,
)

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


def newest(folder):
    messages, state = [], None
    events = newest_state(folder)
    while True:
        try:
            messages.append(next(events))
        except StopIteration as end:
            state = end.value
            break
    assert all(isinstance(event, Message) for event in messages)
    return state, [event.text for event in messages]


def test_what_is_written_is_read_bit_for_bit(tmp_path):
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


def test_the_newest_two_are_kept(tmp_path):
    write(tmp_path, 5, 10, 15, 100)
    names = sorted(path.name for path in (tmp_path / "states").iterdir())
    assert names == [state_name(15), state_name(100)]
    assert newest(tmp_path)[0].step == 100
    remove_states(tmp_path)
    assert not (tmp_path / "states").exists()


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 0x40
    path.write_bytes(data)


@pytest.mark.parametrize("place", [0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_one_wrong_byte_is_noticed_wherever_it_is(tmp_path, place):
    write(tmp_path, 5, 10)
    damaged = tmp_path / "states" / state_name(10)
    flip(damaged, place)
    with pytest.raises(CheckpointError, match="is damaged"):
        read_state(damaged)
    state, (message,) = newest(tmp_path)
    assert state.step == 5
    assert "goes on from step 5" in message
    assert "damaged" in message
    assert not damaged.exists()


@pytest.mark.parametrize("size", [0, 3, 100, -1])
def test_one_that_is_cut_short_gives_way_to_the_one_before(tmp_path, size):
    write(tmp_path, 5, 10)
    damaged = tmp_path / "states" / state_name(10)
    damaged.write_bytes(damaged.read_bytes()[:size])
    state, (message,) = newest(tmp_path)
    assert state.step == 5
    assert message.count(".") < 6
    assert state_name(10) in message


def test_one_that_is_missing_gives_way_to_the_one_before(tmp_path):
    write(tmp_path, 5, 10)
    (tmp_path / "states" / state_name(10)).unlink()
    state, (message,) = newest(tmp_path)
    assert state.step == 5
    assert "is missing" in message


@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_where_none_is_left_one_sentence_says_so(tmp_path, how):
    write(tmp_path, 5, 10)
    if how == "missing":
        shutil.rmtree(tmp_path / "states")
    else:
        for path in (tmp_path / "states").iterdir():
            path.write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match=r"no other state is left.*start again"):
        newest(tmp_path)


def test_a_run_that_saved_nothing_has_none(tmp_path):
    assert newest(tmp_path) == (None, [])


def test_a_run_of_an_older_version_is_told_apart(tmp_path):
    (tmp_path / "last.json").write_text('{"step": 3}')
    with pytest.raises(CheckpointError, match="kept no training states"):
        newest(tmp_path)


def test_one_of_a_newer_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sslseg.core.state.FORMAT", 99)
    write(tmp_path, 5)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="newer version"):
        read_state(tmp_path / "states" / state_name(5))
