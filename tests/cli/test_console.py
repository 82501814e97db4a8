"""What the command line shows of foreign words: as they are."""

import pytest
from rich.console import Console

from napari_sslseg.cli import console
from napari_sslseg.core.common.events import Message, Progress

WORDS = "scan ct:heart:1 of :skull: [bold]x[/bold]"


def test_words_stay_words(capsys):
    console.say(WORDS)
    console.table(["name :heart:"], [[WORDS]])
    shown = capsys.readouterr()
    assert shown.err == f"{WORDS}\n"
    assert WORDS in shown.out
    assert "name :heart:" in shown.out


def test_words_stay_words_beside_bars(monkeypatch, tmp_path):
    with (tmp_path / "shown").open("w", encoding="utf-8") as file:
        terminal = Console(file=file, force_terminal=True, width=200, emoji=False, highlight=False)
        monkeypatch.setattr(console, "err", terminal)
        with console._Bars() as bars:
            bars.show(Message(WORDS))
            bars.show(Progress(WORDS, 1, 2))
    text = (tmp_path / "shown").read_text(encoding="utf-8")
    assert text.count(WORDS) >= 2
    assert not {"❤", "💀"} & set(text)


@pytest.mark.parametrize("name", ["out", "err"])
def test_both_consoles_leave_codes_alone(name, capsys):
    getattr(console, name).print(":heart:", markup=False)
    assert ":heart:" in "".join(capsys.readouterr())
