"""Pretrain, fine-tune, predict and score without a window.

Names are imported on first use, so this import costs next to nothing. ``help(core.finetune)`` and
the like explain each name. In the order of the work:

**Scans and labels.** ``list_series``, ``load_volume`` and ``load_volumes`` read scans,
``load_labels``, ``read_segments`` and ``read_segment_names`` label files; ``pair_scans`` finds the
labels of each scan and ``match_labels`` their classes. ``read_annotated`` and
``read_labelled_classes`` read what is labelled; ``read_patients``, ``with_patients`` and
``describe_patients`` say who is one patient, ``split_subjects`` divides them. Their types are
``Volume``, ``Geometry``, ``Series``, ``LabelledScan``, ``Segment`` and ``SegmentClass``.
``register_format`` and ``unregister_format`` add a ``FileFormat``. ``write_dataset`` and
``make_patient`` make phantom patients with ``PHANTOM_CLASSES``.

**Settings.** ``PretrainSettings`` and ``FinetuneSettings``; in both ``Training`` with
``EarlyStopping``, and ``Preprocessing`` (with ``Window`` and ``CT_WINDOWS``) or
``VolumePreprocessing``; in the latter ``Augmentation`` and ``SelfTraining``. Networks:
``Network``, ``UmapathyNetwork``, ``MultiMixNetwork``, ``DynUNet2dNetwork``,
``EfficientNetwork``, and for volumes ``Dense3dNetwork`` and ``DynUNet3dNetwork``;
``register_network`` adds one.

**Pretraining.** ``pretrain``, or ``iter_pretrain`` for its events. Its tasks are
``ContextRestoration``, ``ContextPrediction``, ``MaskedPatches``, ``MaskedPixels``,
``SparseMasking``, ``ModelsGenesis``, ``VolumeFusion``, ``GlobalContrast``, ``LocalContrast``,
``PolyCL`` and ``SiameseSides``; ``register_task`` adds one.

**Fine-tuning.** ``finetune``, or ``iter_finetune``. With the settings of a paper:
``pretrain_preset`` and ``finetune_preset``, ``iter_pretrain_preset`` and ``iter_finetune_preset``,
with a ``Preset`` of ``PRESETS``, which ``preset_named`` finds and ``register_preset`` adds.

**Runs.** ``Run`` opens a run folder. ``list_runs`` and ``run_differences`` compare runs
(``RunSummary``), ``import_weights`` makes one from weights of another program.

**Predictions and scores.** ``predict`` gives a ``Prediction``, ``load_segmenter`` a network for
many scans, ``save_labels`` writes it. ``evaluate`` (``VolumeScores`` with ``ClassScore``),
``evaluate_folders`` and ``summarize`` (``Evaluation`` with ``ClassSummary``) score it.
``iter_demo`` runs all stages; a ``DemoPlan`` is their size and length.

**Projects.** ``Project`` is the folder of the window, with ``ScanEntry``, ``ProjectClass``,
``AddedScans`` and ``LabelledSplit``; ``recent_projects`` and ``remember_project`` list them.

**Events and control.** Jobs yield ``Event``: ``Message``, ``Progress``, ``Step``, ``Validation``,
``Preview`` (with ``SlicePrediction``), ``Saved``, ``Status`` and last ``Done``. ``StopFlag``,
``PauseFlag`` and ``Watch`` control them, ``launch`` starts several processes. ``SliceStore`` holds
preprocessed slices. ``SslsegError`` is the base of all errors, ``ScanWarning`` a warning about a
scan.
"""

import lazy_loader

_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    try:
        return _attribute(name)
    except AttributeError as error:
        if name.startswith("_") or name in __all__:  # The module of a name may lack something.
            raise
        from napari_sslseg.core.common.text import did_you_mean

        hint = did_you_mean(name, __all__) or "help(core) lists all names."
        raise AttributeError(f"napari_sslseg.core has no {name}. {hint}") from error
