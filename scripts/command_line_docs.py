"""Write docs/reference/command-line.md from the help texts of the commands."""

import os
import subprocess
import sys
from pathlib import Path

COMMANDS = (
    "gui",
    "demo",
    "series",
    "presets",
    "pretrain",
    "finetune",
    "predict",
    "evaluate",
    "export",
    "preview",
    "runs",
    "import-weights",
)
HEAD = """# Command line

Progress and messages go to standard error, results to standard output. Exit codes: 0 success,
2 something that you can put right (one plain line says what), 130 interrupted with the work saved.

Scans are [files of any of these formats](files.md), DICOM series, or folders of them. This page is
made by `make docs`.
"""


def main() -> None:
    parts = [HEAD]
    for name in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", "napari_sslseg.cli.app", name, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"COLUMNS": "96", "TERMINAL_WIDTH": "96", "NO_COLOR": "1"},
        )
        parts.append(f"## {name}\n\n```text\n{done.stdout.strip()}\n```\n")
    folder = Path(__file__).resolve().parents[1] / "docs" / "reference"
    (folder / "command-line.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
