"""The record of a run contains the version of the program."""

import subprocess

import pytest

from napari_sslseg.core.runs.provenance import package_state
from paths import ROOT


def test_a_checkout_is_recorded_with_its_commit():
    if not (ROOT / ".git").exists():
        pytest.skip("the tests do not run from a checkout")
    command = ["git", "-C", ROOT, "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    found = package_state()
    assert found["commit"] == commit
    assert isinstance(found["changed"], bool)
