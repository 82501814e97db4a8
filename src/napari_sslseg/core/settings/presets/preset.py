"""What a preset is: all settings of one paper's method, and where we had to decide ourselves.

Loads no PyTorch.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.frozen import Settings, make_settings
from napari_sslseg.core.settings.augmentation import Augmentation
from napari_sslseg.core.settings.networks import NetworkSettings
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing
from napari_sslseg.core.settings.pretext.registry import TASKS, TaskSettings, make_task
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings

Option = bool | int | float | str | tuple[int, ...] | dict[str, tuple[int, ...]]
"""Value of an option of a pretext task."""

NO_AUGMENTATION = Augmentation(translation=0, rotation=0, crop=0, elastic=0, intensity=0, noise=0)


class Decision(Settings):
    """Where a preset departs from its paper, or the paper is silent."""

    what: str
    printed: str
    here: str
    why: str


class Stage(Settings):
    """One stage of the pretraining.

    The task stands here by its name and options, since some options, such as the slices that hold
    an organ, are known only with the scans.
    """

    task: str
    options: dict[str, Option] = Field(default_factory=dict)
    settings: PretrainSettings

    def make_task(self) -> TaskSettings:
        """Settings of the pretext task.

        Raises
        ------
        ConfigError
            If there is no such task, or it needs an option that is not given.
        """
        options: dict[str, Any] = dict(self.options)
        return make_task(self.task, **options)


class Preset(Settings):
    """A method as its paper has it, from preprocessing to fine-tuning.

    Attributes
    ----------
    name, title : str
        On the command line, and in plain words.
    paper, reference : str
        Short, and with the title of the paper.
    summary : str
        What it does, in a sentence.
    network : NetworkSettings
        Of all stages and of the fine-tuning.
    mr, ct : Preprocessing or VolumePreprocessing
        How scans of either modality are prepared; the papers mostly had one of them.
    stages : tuple of Stage
        Of the pretraining; each starts from the one before.
    finetuning : FinetuneSettings
        Apart from network and preprocessing, which a pretraining brings along.
    decisions : tuple of Decision
        Where we depart from the paper, or where it is silent.
    """

    name: str
    title: str
    paper: str
    reference: str
    summary: str
    network: NetworkSettings
    mr: AnyPreprocessing
    ct: AnyPreprocessing
    stages: tuple[Stage, ...]
    finetuning: FinetuneSettings
    decisions: tuple[Decision, ...]

    def preprocessing(self, modality: Literal["MR", "CT"]) -> AnyPreprocessing:
        """How scans of this modality are prepared."""
        return self.ct if modality == "CT" else self.mr

    def pretrain_settings(
        self, modality: Literal["MR", "CT"] | None, stage: int = 0
    ) -> PretrainSettings:
        """Settings of a stage of the pretraining.

        Parameters
        ----------
        modality : {"MR", "CT"} or None
            Modality of the scans. None leaves network and preprocessing out, for a stage that
            starts from a run, which brings both.
        stage : int
            Number of the stage, from 0.
        """
        return self._completed(self.stages[stage].settings, modality)

    def finetune_settings(self, modality: Literal["MR", "CT"] | None) -> FinetuneSettings:
        """Settings of the fine-tuning; None as in :meth:`pretrain_settings`."""
        return self._completed(self.finetuning, modality)

    def _completed(self, settings: Any, modality: Literal["MR", "CT"] | None) -> Any:
        # Anew from what is not left out: it counts which fields are set.
        kept = set(type(settings).model_fields) - {"network", "preprocessing"}
        fields = {name: getattr(settings, name) for name in kept} | {"preset": self.name}
        if modality is not None:
            fields |= {"network": self.network, "preprocessing": self.preprocessing(modality)}
        return type(settings)(**fields)

    def with_overrides(
        self,
        *,
        network: NetworkSettings | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        middle_share: float | None = None,
        finetuning: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> "Preset":
        """Give the preset with some settings changed, in all stages and in the fine-tuning.

        Parameters
        ----------
        network : NetworkSettings, optional
            Another network.
        preprocessing : mapping, optional
            Fields of the preprocessing to change, such as ``size``.
        training : mapping, optional
            Fields of every training to change. With ``steps`` the length is no longer counted in
            epochs.
        middle_share : float, optional
            Another share of the slices of each scan to learn from.
        finetuning : mapping, optional
            Fields of the fine-tuning to change, such as ``classes``.
        options : mapping, optional
            Options of the pretext tasks to change, such as ``patch_size``; each stage whose task
            has an option takes it.

        Raises
        ------
        ConfigError
            If something cannot be changed so, in one sentence.
        """
        from napari_sslseg.core.settings.networks import check_dimensions

        if network is not None:
            check_dimensions(network, self.network.dimensions)
        values = dict(training or {})
        if "steps" in values:
            values.setdefault("epochs", None)
        share = {} if middle_share is None else {"middle_share": middle_share}
        stages = [
            stage.model_copy(update={"settings": _trained(stage.settings, values, share)})
            for stage in self.stages
        ]
        return self.model_copy(
            update={
                "network": network or self.network,
                "mr": self._prepared(self.mr, preprocessing or {}),
                "ct": self._prepared(self.ct, preprocessing or {}),
                "stages": _with_options(stages, options or {}),
                "finetuning": _trained(self.finetuning, values, share | dict(finetuning or {})),
            }
        )

    def _prepared(self, old: Any, changes: Mapping[str, Any]) -> Any:
        for field in changes:
            if field not in type(old).model_fields:
                raise ConfigError(
                    f"The preset {self.name} works on {old.kind}, which have no {field}; leave it "
                    "out."
                )
        return _changed(old, **changes)


def _changed(old: Any, **changes: Any) -> Any:
    """Settings with some fields changed, checked anew."""
    return make_settings(
        type(old), **{name: getattr(old, name) for name in old.model_fields_set} | changes
    )


def _trained(stage: Any, training: Mapping[str, Any], others: Mapping[str, Any]) -> Any:
    """Settings of a stage with some fields of its training, and others, changed."""
    return _changed(stage, training=_changed(stage.training, **training), **others)


def _with_options(stages: list[Stage], options: Mapping[str, Any]) -> tuple[Stage, ...]:
    """Give each option to the stages whose task has it; refuse one that none has."""
    for option, value in options.items():
        having = [
            s.task for s in stages if s.task in TASKS and option in TASKS[s.task].model_fields
        ]
        if not having:
            make_task(stages[0].task, **{option: value})  # Says which tasks have it.
        stages = [
            stage.model_copy(update={"options": {**stage.options, option: value}})
            if stage.task in having
            else stage
            for stage in stages
        ]
    return tuple(stages)
