"""What the documentation names must exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_every_make_target_in_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    named = set(re.findall(r"^make ([a-z-]+)", "\n".join(blocks), re.MULTILINE))
    assert named
    assert named <= targets


def test_every_option_in_the_docs_is_one_of_the_command_line():
    reference = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    known = set(re.findall(r"--[a-z-]+", reference))
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            for command in re.findall(r"napari-sslseg (?:[^\n\\]|\\\n)*", block):
                assert set(re.findall(r"(?<=\s)--[a-z-]+", command)) <= known, command
