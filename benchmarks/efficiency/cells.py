"""One cell of the benchmark: everything that decides its figures, and a hash of that."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from efficiency.arms import Arm
from efficiency.splits import DataSet
from napari_sslseg import core

FORMAT = 1
"""Of what is computed: a change that makes other figures of the same settings makes it rise."""

Part = Literal["validation", "test"]
Labelled = int | Literal["all"]

ORDER_SEED = 7


@dataclass(frozen=True)
class Length:
    """What holds for all arms: the network, how long they train, and on how many labelled slices.

    ``slices`` are those of each labelled scan; all if 0.
    """

    network: str = "small"
    steps: int = 1000
    pretrain_steps: int = 3000
    slices: int = 0


@dataclass(frozen=True)
class Cell:
    """An arm, fitted once.

    Parameters
    ----------
    data : DataSet
        With its split.
    labelled : int or "all"
        Labelled subjects.
    draw : int
        Number of the draw of these, and of the fine-tuning.
    seed : int
        Of the pretraining.
    part : {"validation", "test"}
        Whose subjects are scored.
    """

    data: DataSet
    arm: Arm
    labelled: Labelled
    draw: int
    seed: int
    part: Part
    length: Length = Length()

    @property
    def subjects(self) -> tuple[str, ...]:
        """The labelled subjects; those of few are among those of more."""
        pool = self.data.training
        order = np.random.default_rng([ORDER_SEED, self.draw]).permutation(len(pool))
        count = len(pool) if self.labelled == "all" else self.labelled
        return tuple(sorted(pool[i] for i in order[:count]))

    @property
    def network(self) -> core.Network:
        """The network of all arms."""
        return core.Network.preset(self.length.network)

    @property
    def preprocessing(self) -> core.Preprocessing:
        """Slices of the data set, with as many beside them as the arm looks at."""
        near = self.arm.neighbours
        near = self.data.neighbours if near is None else near
        return self.data.preprocessing.model_copy(update={"neighbours": near})

    def pretraining(self) -> list[tuple[Any, core.PretrainSettings]]:
        """Task and settings of each stage, complete but for what an earlier stage brings."""
        size = self.data.preprocessing.size
        assert size is not None  # or arms would not share their slices
        return [
            (
                stage.make_task(size, self.network),
                _completed(
                    stage.settings,
                    steps=self.length.pretrain_steps,
                    seed=self.seed,
                    network=self.network,
                    preprocessing=self.preprocessing,
                ),
            )
            for stage in self.arm.stages
        ]

    @property
    def unlabelled(self) -> bool:
        """Whether the fine-tuning is given scans without labels; at last there are none."""
        some = self.length.slices > 0 or len(self.subjects) < len(self.data.training)
        return self.arm.unlabelled and some

    def finetuning(self) -> core.FinetuneSettings:
        """Settings of the fine-tuning, complete."""
        alone = self.arm.unlabelled and not self.unlabelled
        return _completed(
            self.arm.finetuning,
            steps=self.length.steps,
            seed=1000 * self.seed + self.draw,
            network=self.network,
            preprocessing=self.preprocessing,
            classes=self.data.classes,
            **({"self_training": None} if alone else {}),
        )

    def predicting(self) -> dict[str, Any]:
        """Options of the prediction."""
        return {"tta": self.arm.tta, "least_part": self.arm.least_part}

    def stage_hashes(self) -> list[str]:
        """Hash of the pretraining up to each of its stages."""
        stages = self._described_stages()
        return [
            digest({"format": FORMAT, "data": self._described_data(), "stages": stages[: n + 1]})
            for n in range(len(stages))
        ]

    @property
    def fit_hash(self) -> str:
        """Of all that decides the fine-tuned network: what is predicted with it comes later."""
        return digest({"format": FORMAT, "data": self._described_data(), **self._described_fit()})

    @property
    def hash(self) -> str:
        """Of all that decides the figures; neither paths nor versions are in it."""
        return digest(
            {
                "format": FORMAT,
                "data": self._described_data(),
                "arm": self.arm.name,
                "method": self.arm.method,
                "options": dict(self.arm.options),
                **self._described_fit(),
                # Only what is on, so that it changes no hash of what was computed before.
                **{k: v for k, v in self.predicting().items() if v},
                "draw": self.draw,
                "part": self.part,
                "scored": self.data.part(self.part),
            }
        )

    @property
    def key(self) -> dict[str, Any]:
        """What tells the cell apart in the rows, for people."""
        return {
            "dataset": self.data.name,
            "arm": self.arm.name,
            "labelled": self.labelled,
            "draw": self.draw,
            "seed": self.seed,
            "part": self.part,
            "network": self.length.network,
            "steps": self.length.steps,
            "pretrain_steps": self.length.pretrain_steps,
            "slices": self.length.slices,
        }

    def __str__(self) -> str:
        some = f" ({self.length.slices} slices)" if self.length.slices else ""
        count = f"{self.labelled} labelled{some}, draw {self.draw}, seed {self.seed}"
        return f"{self.data.name}, {self.arm.name}, {count}, {self.part}"

    def _described_data(self) -> dict[str, Any]:
        return {
            "name": self.data.name,
            "preprocessing": described(self.preprocessing),
            "training": self.data.training,
        }

    def _described_fit(self) -> dict[str, Any]:
        return {
            "stages": self._described_stages(),
            "network": self.length.network,
            "finetuning": described(self.finetuning()),
            "unlabelled": self.unlabelled,
            "labelled": self.subjects,
            "seed": self.seed,
            # Only where it is asked for, as above.
            **({"slices": self.length.slices} if self.length.slices else {}),
        }

    def _described_stages(self) -> list[dict[str, Any]]:
        return [
            {"task": [task.kind, described(task)], "settings": described(settings)}
            for task, settings in self.pretraining()
        ]


def _completed(settings: Any, *, steps: int, seed: int, **fields: Any) -> Any:
    """Settings with what all arms share."""
    training = settings.training.model_copy(update={"steps": steps, "epochs": None, "seed": seed})
    return settings.model_copy(update={"training": training, **fields})


def described(settings: Any) -> dict[str, Any]:
    """What differs from the defaults, so that a new setting that is off changes no hash.

    Where a default changes what is computed, ``FORMAT`` is to be raised.
    """
    return dict(settings.model_dump(mode="json", exclude_defaults=True))


def digest(values: dict[str, Any]) -> str:
    """Hash of JSON-safe values, whatever the order of the keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan(
    data: Sequence[DataSet],
    arms: Sequence[Arm],
    labelled: Sequence[Labelled],
    draws: int,
    seeds: Sequence[int],
    part: Part,
    length: Length,
) -> Iterator[Cell]:
    """All cells that can be, draw by draw, so that comparisons are even whenever one stops.

    Left out are more labelled subjects than there are; ``all`` is for that. So is nnU-Net where few
    slices are labelled, since it learns from whole scans.
    """
    for seed in seeds:
        for draw in range(draws):
            for count in labelled:
                for one in data:
                    if count != "all" and count >= len(one.training):
                        continue
                    for arm in arms:
                        if arm.method == "nnunet" and length.slices:
                            continue
                        yield Cell(one, arm, count, draw, seed, part, length)
