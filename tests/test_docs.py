"""Links, commands, options and controls in the documentation exist."""

import ast
import re
import shlex
from typing import get_args

import pytest
import yaml

from napari_sslseg.core.common.sizes import Plane
from paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_link_targets_exist(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_every_make_target_in_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    named = set(re.findall(r"^make ([a-z-]+)", "\n".join(blocks), re.MULTILINE))
    assert named
    assert named <= targets


def test_every_option_in_the_docs_exists():
    reference = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    known = set(re.findall(r"--[a-z-]+", reference))
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            for command in re.findall(r"napari-sslseg (?:[^\n\\]|\\\n)*", block):
                assert set(re.findall(r"(?<=\s)--[a-z-]+", command)) <= known, command


def test_each_block_of_the_readme_writes_its_own_runs():
    """A block can be pasted after the others."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```(?:sh|python)\n(.*?)```", text, re.DOTALL)
    written = re.findall(r"(?:--out |\bout=\")([\w./-]+)", "\n".join(blocks))
    assert len(written) > 4
    assert len(set(written)) == len(written)


TUTORIAL = {
    "my_scans/images", "my_scans/labels", "labelled/images", "labelled/labels", "runs/pre",
    "runs/ft", "predictions",
}  # fmt: skip
"""Folders that the tutorial makes."""

YOURS = {"exports/", "exports/ct", "strokes", "checkpoint.pt", "liver.nii.gz", "classes.json"}
"""Files and folders of the reader."""

TAKES_PATHS = {
    "--images", "--labels", "--unlabelled", "--init", "--masks", "--annotated", "--organ-slices",
    "--labelled-classes", "--class-names", "--like",
}  # fmt: skip


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent.name in ("how-to", "concepts")])
def test_blocks_run_after_the_tutorial(page):
    """Each command reads what the tutorial or an earlier block made, and writes something new."""
    made = set(TUTORIAL)
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            made |= set(re.findall(r"> (\S+)$", line)) | set(re.findall(r"mkdir (\S+)", line))
            words = shlex.split(line, comments=True)
            if words[:1] != ["napari-sslseg"] or len(words) < 3:
                continue
            read = [words[n + 1] for n, word in enumerate(words) if word in TAKES_PATHS]
            if words[1] in (
                "pretrain",
                "predict",
                "evaluate",
                "preview",
                "series",
                "import-weights",
            ):
                read += [word for word in words[2:4] if not word.startswith("-") and word != "mae"]
            assert set(read) <= made | YOURS, line
            if "--out" in words:
                out = words[words.index("--out") + 1]
                assert out not in made or "--resume" in words, line
                made.add(out)


WINDOW_PAGES = (
    "tutorial-window.md",
    "how-to/label-in-the-window.md",
    "how-to/read-the-scores.md",
    "how-to/share-a-project-with-a-script.md",
    "reference/window.md",
)


def texts_of_the_window():
    """Return all string constants of the window, and the names of planes and of the panel."""
    sources = (ROOT / "src" / "napari_sslseg" / "gui").rglob("*.py")
    nodes = (node for path in sources for node in ast.walk(ast.parse(path.read_text())))
    found = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    found |= {plane.capitalize() for plane in get_args(Plane)}
    found |= {item["display_name"] for item in manifest()["widgets"]}
    return tuple(text.replace("&", "").replace("<b>", "").strip() for text in found)


def manifest():
    text = (ROOT / "src" / "napari_sslseg" / "napari.yaml").read_text()
    return yaml.safe_load(text)["contributions"]


@pytest.mark.parametrize("page", WINDOW_PAGES)
def test_every_control_in_the_docs_is_in_the_window(page):
    shown = texts_of_the_window()
    text = (ROOT / "docs" / page).read_text()
    bold = re.findall(r"\*\*([A-Z0-9][^*]*[^*.])\*\*", text)
    named = {
        " ".join(re.sub(r"^\d ", "", part).split())
        for whole in bold
        # Each entry of a menu path; "…" within a name marks a variable part.
        for part in re.split(" ▸ | … ", whole)
    }
    assert named
    assert not {name for name in named if not any(text.startswith(name) for text in shown)}
