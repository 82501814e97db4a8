"""Text from files and paths is printed unchanged, without markup or emoji."""

import pytest
from rich.console import Console

from napari_sslseg.cli import console
from napari_sslseg.core.common.events import Message, Progress

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
