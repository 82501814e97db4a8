"""What the window says about structures that too few patients have."""

import pytest

from napari_sslseg.gui.train.label_coverage import describe_coverage

NAMES = {1: "liver", 2: "cyst"}
BOTH, LIVER = frozenset({1, 2}), frozenset({1})


@pytest.mark.parametrize(
    ("training", "validation", "held_out", "words"),
    [
        ({"ann": BOTH, "bob": BOTH}, {"cy": BOTH}, {}, []),
        ({"ann": BOTH, "bob": LIVER}, {"cy": LIVER}, {}, ["Only ann", "has cyst", "no other"]),
        ({"ann": LIVER}, {"cy": BOTH}, {}, ["cyst", "only in cy,", "not learnt"]),
        ({"ann": LIVER}, {}, {"dan": BOTH}, ["cyst", "only in dan,", "not learnt"]),
        ({"ann": BOTH}, {"cy": LIVER}, {"dan": BOTH}, ["validation has no cyst", "no Dice"]),
        ({"ann": LIVER}, {"cy": LIVER}, {}, ["No done slice shows cyst"]),
        ({"ann": BOTH}, {}, {"dan": BOTH}, []),
        # Without any other patient this is said of the whole training already.
        ({"ann": BOTH}, {}, {}, []),
    ],
)
def test_structures_that_cannot_be_learnt_or_scored_are_named(
    training, validation, held_out, words
):
    found = describe_coverage(NAMES, training, validation, held_out)
    assert len(found) == bool(words)
    assert all(word in found[0] for word in words)
    assert not any("liver" in sentence for sentence in found)
