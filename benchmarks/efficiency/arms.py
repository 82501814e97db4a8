"""The arms that are compared, by name: pretraining and fine-tuning of each, or another method.

All arms have the same network, slices and number of fine-tuning steps (nnU-Net only the number of
steps). All stages of a pretraining have the same number of steps, so two stages take twice as long.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from napari_sslseg import core
from napari_sslseg.core.settings.pretext.registry import TASKS, TaskSettings, make_task

Method = Literal["core", "random-forest", "monai-loop", "nnunet"]

AVERAGE_DECAY = 0.99
LEAST_PART = 0.1
TRANSFERS: tuple[Literal["encoder", "encoder+decoder"], ...] = ("encoder", "encoder+decoder")
STRATEGIES: tuple[Literal["sawtooth", "freeze-unfreeze", "layer-decay", "frozen-encoder"], ...] = (
    "sawtooth",
    "freeze-unfreeze",
    "layer-decay",
    "frozen-encoder",
)
# Papers whose tasks need no labels and work on slices.
PAPERS = ("dominic-2023", "umapathy-2022-regression", "umapathy-2022-contrastive", "polycl-s")

GREYS = core.Augmentation(intensity=0.5, noise=0.2, gamma=1.0, blur=1.0)
GEOMETRY = core.Augmentation(translation=0.15, rotation=30, crop=0.35, elastic=0.05)

STRONG = GREYS.model_copy(update=GEOMETRY.model_dump(exclude_defaults=True))

# Variants of self-training.
TEACHING: dict[str, dict[str, Any]] = {
    "often": {"begin": 0.25, "rounds": 6},
    "sure": {"threshold": 0.9},
    "unsure": {"threshold": 0.5},
    "wide": {"augmentation": STRONG},
    "light": {"weight": 0.3},
}

FOREST = {"trees": 50, "depth": 10, "pixels": 200_000}

PRETRAINING = core.PretrainSettings(
    training=core.Training(batch_size=16, learning_rate=1e-3), validation_share=0
)
FINETUNING = core.FinetuneSettings(
    training=core.Training(batch_size=8, learning_rate=1e-3, gradient_clip=12.0)
)


@dataclass(frozen=True)
class Stage:
    """One stage of a pretraining.

    Steps, network and preprocessing in the settings are replaced by those of the benchmark.
    """

    task: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: core.PretrainSettings = PRETRAINING

    def make_task(self, size: tuple[int, int], network: core.Network) -> TaskSettings:
        """Settings of the task, with a patch size for slices of this size."""
        return make_task(self.task, size, stride=network.stride, **self.options)


@dataclass(frozen=True)
class Arm:
    """One method of segmentation.

    Parameters
    ----------
    name : str
        Name on the command line and in the tables.
    stages : tuple of Stage
        Stages of the pretraining; none for training from scratch.
    finetuning : FinetuneSettings
        Settings except network, preprocessing, classes, steps and seed.
    unlabelled : bool
        Whether the fine-tuning also uses the scans of training subjects without labels.
    neighbours : int or None
        Number of adjacent slices on each side that the network also sees, in all stages; the
        default of the package for the data set if None.
    tta : bool
        Whether scans are predicted with test-time augmentation.
    least_part : float
        Connected components smaller than this fraction of the largest of their class are removed
        from predictions.
    method : {"core", "random-forest", "monai-loop", "nnunet"}
        Program that fits the arm.
    options : mapping
        Options of a method other than ``core``.
    """

    name: str
    stages: tuple[Stage, ...] = ()
    finetuning: core.FinetuneSettings = FINETUNING
    unlabelled: bool = False
    neighbours: int | None = 0
    tta: bool = False
    least_part: float = 0.0
    method: Method = "core"
    options: Mapping[str, Any] = field(default_factory=dict)


def finetuning(**changes: Any) -> core.FinetuneSettings:
    """Settings of the fine-tuning of most arms, with some fields changed."""
    return core.FinetuneSettings(training=FINETUNING.training, **changes)


def make_arms() -> dict[str, Arm]:
    """All arms by name."""
    average = {"average_decay": AVERAGE_DECAY}
    # The first version, with the same augmentation of labelled and unlabelled slices.
    taught = {**average, "self_training": core.SelfTraining(augmentation=None)}
    recipe = {**average, "self_training": core.SelfTraining()}
    mae = (Stage("mae"),)
    arms = [
        Arm("scratch"),
        Arm("scratch-average", finetuning=finetuning(**average)),
        Arm("scratch-average+strong", finetuning=finetuning(**average, augmentation=STRONG)),
        Arm("self-training", finetuning=finetuning(**taught), unlabelled=True),
        Arm(
            "self-training+strong",
            finetuning=finetuning(**taught, augmentation=STRONG),
            unlabelled=True,
        ),
    ]
    arms += [
        Arm("scratch-average+neighbours", finetuning=finetuning(**average), neighbours=1),
        Arm(
            "self-training+neighbours",
            finetuning=finetuning(**taught),
            unlabelled=True,
            neighbours=1,
        ),
        Arm(
            "self-training+strong+neighbours",
            finetuning=finetuning(**taught, augmentation=STRONG),
            unlabelled=True,
            neighbours=1,
        ),
    ]
    for name, changes in {"greys": GREYS, "geometry": GEOMETRY}.items():
        wide = finetuning(**average, augmentation=changes)
        arms.append(Arm(f"scratch-average+{name}", finetuning=wide))
        wide = finetuning(**taught, augmentation=changes)
        arms.append(Arm(f"self-training+{name}", finetuning=wide, unlabelled=True))
        near = f"self-training+{name}+neighbours"
        arms.append(Arm(near, finetuning=wide, unlabelled=True, neighbours=1))
    for rate in (3e-4, 3e-3):
        training = FINETUNING.training.model_copy(update={"learning_rate": rate})
        arms.append(
            Arm(f"scratch-rate-{rate:g}", finetuning=core.FinetuneSettings(training=training))
        )
    best = Arm("recipe", finetuning=finetuning(**recipe), unlabelled=True, neighbours=None)
    arms += [best, Arm("scratch+tta", tta=True), replace(best, name="recipe+tta", tta=True)]
    arms.append(Arm("scratch+pieces", least_part=LEAST_PART))
    arms.append(replace(best, name="recipe+pieces", least_part=LEAST_PART))
    # Like the default of the window, if run with 400 steps.
    window = best.finetuning.training.model_copy(update={"batch_size": 16})
    for arm in (Arm("scratch"), best):
        same = arm.finetuning.model_copy(update={"training": window})
        arms.append(replace(arm, name=f"{arm.name}-batch-16", finetuning=same))
    for name, changes in TEACHING.items():
        other = finetuning(**average, self_training=core.SelfTraining(**changes))
        arms.append(replace(best, name=f"recipe+{name}", finetuning=other))
    starts = {name: (_alone(name),) for name, kind in TASKS.items() if 2 in kind.dimensions}
    starts["context-restoration+global-contrast"] = (
        Stage("context-restoration"),
        Stage("global-contrast"),
    )
    for name, stages in starts.items():
        for transfer in TRANSFERS:
            arms.append(Arm(f"{name}/{transfer}", stages, finetuning(transfer=transfer)))
        changed = {"finetuning": finetuning(**recipe, transfer="encoder+decoder"), "stages": stages}
        arms.append(replace(best, name=f"{name}/recipe", **changed))
    for strategy in STRATEGIES:
        arms.append(Arm(f"mae/{strategy}", mae, finetuning(strategy=strategy)))
    arms.append(Arm("mae/self-training", mae, finetuning(**taught), unlabelled=True))
    arms += [_paper(name) for name in PAPERS]
    arms += [
        Arm("random-forest", method="random-forest", options=FOREST),
        Arm(
            "random-forest-balanced",
            method="random-forest",
            options={**FOREST, "class_weight": "balanced_subsample"},
        ),
        Arm("monai-loop", method="monai-loop", options={"batch_size": 8, "learning_rate": 1e-3}),
        Arm("nnunet", method="nnunet", options={"most_per_batch": 8}),
    ]
    return {arm.name: arm for arm in arms}


def _alone(task: str) -> Stage:
    """Make a stage for a task without an earlier stage."""
    # Its encoder starts at random here, so it must not be frozen.
    return Stage(task, {"freeze_encoder": False} if task == "local-contrast" else {})


def _paper(name: str) -> Arm:
    """Make an arm with tasks, batches, rates, schedules and losses of a paper on our network."""
    preset = core.preset_named(name)
    stages = tuple(
        # The patch size of the paper is for its slices of 512 × 512 pixels.
        Stage(stage.task, {k: v for k, v in stage.options.items() if k != "patch_size"}, pretrain)
        for stage, pretrain in (
            (stage, preset.pretrain_settings(None, number))
            for number, stage in enumerate(preset.stages)
        )
    )
    return Arm(f"paper/{name}", stages, preset.finetune_settings(None))


ARMS = make_arms()


def chosen_arms(patterns: list[str]) -> list[Arm]:
    """Find the arms that match one of the patterns, such as ``mae/*``, in the order of ``ARMS``.

    Raises
    ------
    KeyError
        If a pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in ARMS):
            raise KeyError(f"There is no arm {pattern}; choose among {', '.join(ARMS)}.")
    return [arm for name, arm in ARMS.items() if any(fnmatchcase(name, p) for p in patterns)]
