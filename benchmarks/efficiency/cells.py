"""One cell of the benchmark: everything that determines its scores, and a hash of it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from efficiency.arms import Arm
from efficiency.splits import DataSet
from napari_sslseg import core
from napari_sslseg.core.settings.networks import NetworkSettings, named_network

FORMAT = 1
"""Version of the computation; raise it if the same settings give other scores."""

Part = Literal["validation", "test"]
Labelled = int | Literal["all"]

ORDER_SEED = 7


@dataclass(frozen=True)
class Length:
    """Settings of all arms.

    All slices of a labelled scan are labelled if ``slices`` is 0. The pixels are those of the data
    set if ``spacing`` is 0 mm.
    """

    network: str = "small"
    steps: int = 1000
    pretrain_steps: int = 3000
    slices: int = 0
    spacing: float = 0.0


@dataclass(frozen=True)
class Cell:
    """One fit of an arm.

    Parameters
    ----------
    data : DataSet
        Data set with its split.
    labelled : int or "all"
        Number of labelled subjects.
    draw : int
        Seed of the choice of labelled subjects, and of the fine-tuning.
    seed : int
        Seed of the pretraining.
    part : {"validation", "test"}
        Subjects that are scored.
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
        """The labelled subjects; smaller numbers are subsets of larger ones."""
        pool = self.data.training
        order = np.random.default_rng([ORDER_SEED, self.draw]).permutation(len(pool))
        count = len(pool) if self.labelled == "all" else self.labelled
        return tuple(sorted(pool[i] for i in order[:count]))

    @property
    def network(self) -> NetworkSettings:
        """The network of all arms."""
        return named_network(self.length.network)

    @property
    def preprocessing(self) -> core.Preprocessing:
        """Preprocessing of the data set, with the number of neighbouring slices of the arm."""
        near = self.arm.neighbours
        near = self.data.neighbours if near is None else near
        chosen = self.data.preprocessing
        if self.length.spacing:
            chosen = self.data.sampled(self.length.spacing)
        return chosen.model_copy(update={"neighbours": near})

    def pretraining(self) -> list[tuple[Any, core.PretrainSettings]]:
        """Task and settings of each stage; later stages start from earlier ones."""
        size = self.preprocessing.size
        assert size is not None  # so that all arms have the same slices
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
        """Whether the fine-tuning also uses scans without labels, if there are any."""
        some = self.length.slices > 0 or len(self.subjects) < len(self.data.training)
        return self.arm.unlabelled and some

    def finetuning(self) -> core.FinetuneSettings:
        """All settings of the fine-tuning."""
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
        """Hash of everything that determines the fine-tuned network, without the prediction."""
        return digest({"format": FORMAT, "data": self._described_data(), **self._described_fit()})

    @property
    def hash(self) -> str:
        """Hash of everything that determines the scores; without paths and versions."""
        return digest(
            {
                "format": FORMAT,
                "data": self._described_data(),
                "arm": self.arm.name,
                "method": self.arm.method,
                "options": dict(self.arm.options),
                **self._described_fit(),
                # Only options that are on, so that new ones change no earlier hash.
                **{k: v for k, v in self.predicting().items() if v},
                "draw": self.draw,
                "part": self.part,
                "scored": self.data.part(self.part),
            }
        )

    @property
    def key(self) -> dict[str, Any]:
        """Readable fields that identify the cell in the rows."""
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
            "spacing": self.length.spacing,
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
            # Only if set, as above.
            **({"slices": self.length.slices} if self.length.slices else {}),
        }

    def _described_stages(self) -> list[dict[str, Any]]:
        return [
            {"task": [task.kind, described(task)], "settings": described(settings)}
            for task, settings in self.pretraining()
        ]


def _completed(settings: Any, *, steps: int, seed: int, **fields: Any) -> Any:
    """Add the settings that all arms share."""
    training = settings.training.model_copy(update={"steps": steps, "epochs": None, "seed": seed})
    return settings.model_copy(update={"training": training, **fields})


def described(settings: Any) -> dict[str, Any]:
    """Fields that differ from the defaults, so that a new setting that is off changes no hash.

    If a changed default changes the results, raise ``FORMAT``.
    """
    return dict(settings.model_dump(mode="json", exclude_defaults=True))


def digest(values: dict[str, Any]) -> str:
    """Hash of JSON-safe values, independent of the order of the keys."""
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
    """Yield all possible cells, draw by draw, so that comparisons stay fair if a run is stopped.

    Skips numbers of labelled subjects that are not smaller than all (use ``all``), and nnU-Net if
    only some slices are labelled, since it trains on complete scans.
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
