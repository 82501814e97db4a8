"""Scores of the arms of a demonstration by patient, and what their differences mean."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from napari_sslseg.core.results.scores import Evaluation, mean_of

MEAN = "mean"
"""Stands for the mean over classes, where a class is expected."""

CHANCE = 0.05
MOST_EXACT = 12
DRAWS = 4096

Arm = Mapping[str, Any]


def arm_report(arm: str, labelled: Sequence[str], seed: int, scores: Evaluation) -> dict[str, Any]:
    """Scores of one training, for the report.

    Parameters
    ----------
    arm : str
        How the scans without labels were used.
    labelled : sequence of str
        Names of the labelled scans.
    seed : int
        Seed of the draw and of the training.
    scores : Evaluation
        Scores on the test scans.
    """
    found = scores.as_dict()
    return {
        "arm": arm,
        "labelled_volumes": len(labelled),
        "labelled": list(labelled),
        "seed": seed,
        "dice": {value: summary["dice"] for value, summary in found["classes"].items()},
        "mean": found["mean_dice"],
        "hd95_mm": {value: summary["hd95_mm"] for value, summary in found["classes"].items()},
        "volumes": {
            volume["name"]: {
                "subject": volume["subject"],
                "mean_dice": volume["mean_dice"],
                **{
                    measure: {value: score[measure] for value, score in volume["classes"].items()}
                    for measure in ("dice", "hd95_mm")
                },
            }
            for volume in found["volumes"]
        },
    }


def with_most_labels(arms: Sequence[Arm]) -> list[Arm]:
    """Return the trainings on the largest number of labelled scans."""
    most = max(arm["labelled_volumes"] for arm in arms)
    return [arm for arm in arms if arm["labelled_volumes"] == most]


def by_patient(arms: Sequence[Arm], kind: str, measure: str, value: str = MEAN) -> dict[str, float]:
    """Mean score of each patient, over scans and repeats.

    Parameters
    ----------
    arms : sequence of mapping
        From :func:`arm_report`.
    kind : str
        The arm.
    measure : {"dice", "hd95_mm"}
        What is averaged.
    value : str
        Value of the class, or ``"mean"`` for the mean over classes.

    Returns
    -------
    dict of str to float
        Patients without a defined score are left out.
    """
    found: dict[str, list[float]] = {}
    for arm in arms:
        for scan in arm["volumes"].values() if arm["arm"] == kind else ():
            scores = scan[measure]
            score = mean_of(scores.values()) if value == MEAN else scores.get(value)
            if score is not None:
                found.setdefault(scan["subject"], []).append(score)
    return {patient: float(np.mean(scores)) for patient, scores in found.items()}


def compare_arms(arms: Sequence[Arm]) -> list[str]:
    """Say how each arm differs from the first one, patient by patient.

    The difference of mean Dice is tested with the sign-flip permutation test, exactly for up to 12
    patients. The test says nothing about other draws of the labelled scans.
    """
    shown = with_most_labels(arms)
    first, *others = dict.fromkeys(arm["arm"] for arm in shown)
    base = by_patient(shown, first, "dice")
    sentences = []
    for kind in others:
        found = by_patient(shown, kind, "dice")
        pairs = [found[patient] - base[patient] for patient in base if patient in found]
        if pairs:
            sentences.append(f"{kind} against {first}: {_describe(np.array(pairs))}")
    return sentences


def _describe(differences: np.ndarray) -> str:
    count, higher = len(differences), int((differences > 0).sum())
    chance = sign_flip(differences)
    mean = f"mean Dice {_signed(differences.mean())}"
    if count == 1:
        return f"{mean}; one patient shows nothing."
    verdict = "may be chance" if chance > CHANCE else f"hardly chance, p = {chance:.2g}"
    span = f"{_signed(differences.min())} to {_signed(differences.max())}"
    return f"{mean}, higher in {higher} of {count} patients ({span}): {verdict}."


def _signed(value: float) -> str:
    found = f"{value:+.3f}".replace("-", "−")
    return "0.000" if found.endswith("0.000") else found


def sign_flip(differences: np.ndarray) -> float:
    """Two-sided p value of the sign-flip test of a mean difference of 0.

    Parameters
    ----------
    differences : ndarray, (patients,)
        One difference for each patient.

    Returns
    -------
    float
        Share of sign changes whose mean is at least as far from 0; exact for up to 12 patients,
        else from 4096 draws. It is never below 2 / 2^patients.
    """
    count = len(differences)
    if count <= MOST_EXACT:
        signs = np.array(list(product((1, -1), repeat=count)))
    else:
        signs = np.random.default_rng(0).choice((1, -1), (DRAWS, count))
        signs[0] = 1
    means = np.abs(signs @ differences)
    # Differences that are equal may differ in the last digit.
    return float((means >= abs(differences.sum()) * (1 - 1e-9) - 1e-12).mean())


def caution(test_patients: int, draws: int) -> str:
    """Say how far the scores of a demonstration reach."""
    drawn = "one draw" if draws == 1 else f"{draws} draws"
    patients = "1 test patient" if test_patients == 1 else f"{test_patients} test patients"
    return (
        f"This is {drawn} of the labelled scans and {patients}: other draws differ, often by more "
        "than these ways to train do."
    )
