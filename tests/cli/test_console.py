"""Text from files and paths is printed unchanged, without markup or emoji."""

import pytest
from rich.console import Console

from napari_sslseg.cli import console
from napari_sslseg.core.common.events import Message, Progress, Step
from napari_sslseg.core.runs.time_left import TimeLeft

TEXT = "scan ct:heart:1 of :skull: [bold]x[/bold]"


def test_messages_and_tables_print_text_unchanged(capsys):
    console.say(TEXT)
    console.table(["name :heart:"], [[TEXT]])
    shown = capsys.readouterr()
    assert shown.err == f"{TEXT}\n"
    assert TEXT in shown.out
    assert "name :heart:" in shown.out


def test_progress_bars_print_text_unchanged(monkeypatch, tmp_path):
    with (tmp_path / "shown").open("w", encoding="utf-8") as file:
        terminal = Console(file=file, force_terminal=True, width=200, emoji=False, highlight=False)
        monkeypatch.setattr(console, "err", terminal)
        with console.ProgressBars() as bars:
            bars.show(Message(TEXT))
            bars.show(Progress(TEXT, 1, 2))
    text = (tmp_path / "shown").read_text(encoding="utf-8")
    assert text.count(TEXT) >= 2
    assert not {"❤", "💀"} & set(text)


@pytest.mark.parametrize("name", ["out", "err"])
def test_consoles_do_not_replace_emoji_codes(name, capsys):
    getattr(console, name).print(":heart:", markup=False)
    assert ":heart:" in "".join(capsys.readouterr())


@pytest.mark.parametrize("terminal", [True, False])
def test_a_training_says_how_long_it_takes_once_its_speed_is_known(monkeypatch, tmp_path, terminal):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with (tmp_path / "shown").open("w", encoding="utf-8") as file:
        shown = Console(file=file, force_terminal=terminal, width=200, emoji=False)
        monkeypatch.setattr(console, "err", shown)
        view = console.ProgressBars() if terminal else console.ProgressLines()
        view.left = TimeLeft(lambda: now[0])
        with view:
            for number in range(1, 51):
                now[0] += 11
                view.show(Step(number, 100, 0.5, 1e-3, 10.0))
    assert "about 9 min left" in (tmp_path / "shown").read_text(encoding="utf-8")
