"""Names that are shortened for a list."""

import pytest

from napari_sslseg.gui.text import shorten


@pytest.mark.parametrize("most", [7, 9, 12])
@pytest.mark.parametrize(
    "names",
    [
        ["SC-HF-I-01_ED", "SC-HF-I-02_ED", "SC-HF-I-02_ES"],
        [f"patient_{number:02}_T1_axial_fs_pre_contrast" for number in range(9)],
        [f"{letter}-same-in-all-names-of-this-list" for letter in "abc"],
        [f"same-in-all-names-of-this-list-{letter}" for letter in "abc"],
    ],
)
def test_shortened_names_stay_distinct(names, most):
    found = shorten(names, most)
    assert len(set(found)) == len(names)
    assert all(len(name) <= most for name in found)
    for name, short in zip(names, found, strict=True):
        assert all(part in name for part in short.split("…"))


def test_names_that_fit_are_not_changed():
    assert shorten(["liver_1", "a much longer name of a scan"], 10)[0] == "liver_1"
    assert shorten([], 10) == []
    assert shorten(["one"], 3) == ["one"]


def test_many_equal_beginnings_do_not_make_a_name_too_long():
    assert all(len(name) <= 3 for name in shorten(["aaaaaaaa", "aaaaaaab", "aaaaaaaa-c"], 3))
    assert len(set(shorten(["the same A it ends", "the same B it ends"], 3))) == 2
