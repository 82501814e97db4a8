"""Make a folder read-only, also for root."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest


@contextmanager
def read_only_folder(folder):
    """Let nothing be written in a folder; skips the test where that is impossible."""
    if sys.platform == "win32":
        pytest.skip("folders have no such permissions")
    if os.geteuid():
        inner = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        modes = {path: path.stat().st_mode for path in inner}
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        try:
            yield folder
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
        return
    # Root can write everywhere, except on a disk that is read-only.
    try:
        if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
            pytest.skip("nothing can be mounted here")
    except FileNotFoundError:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
