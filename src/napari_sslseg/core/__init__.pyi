from .common.compute.distributed import launch as launch
from .common.errors import ScanWarning as ScanWarning, SslsegError as SslsegError
from .common.events import (
    Done as Done,
    Event as Event,
    Message as Message,
    PauseFlag as PauseFlag,
    Preview as Preview,
    Progress as Progress,
    Saved as Saved,
    Status as Status,
    Step as Step,
    StopFlag as StopFlag,
    Validation as Validation,
)
from .common.example_pictures import SlicePrediction as SlicePrediction
from .demo.demo import iter_demo as iter_demo
from .demo.phantom.patient import (
    PHANTOM_CLASSES as PHANTOM_CLASSES,
    make_patient as make_patient,
    write_dataset as write_dataset,
)
from .demo.plan import DemoPlan as DemoPlan
from .project.add import AddedScans as AddedScans
from .project.project import LabelledSplit as LabelledSplit, Project as Project
from .project.recent import recent_projects as recent_projects, remember_project as remember_project
from .project.record import ProjectClass as ProjectClass, ScanEntry as ScanEntry
from .results.evaluate import (
    evaluate as evaluate,
    evaluate_folders as evaluate_folders,
    summarize as summarize,
)
from .results.predict import (
    Prediction as Prediction,
    load_segmenter as load_segmenter,
    predict as predict,
)
from .results.scores import (
    ClassScore as ClassScore,
    ClassSummary as ClassSummary,
    Evaluation as Evaluation,
    VolumeScores as VolumeScores,
)
from .runs.listing import (
    RunSummary as RunSummary,
    list_runs as list_runs,
    run_differences as run_differences,
)
from .runs.run import Run as Run
from .runs.weights.import_weights import import_weights as import_weights
from .samples.slices import SliceStore as SliceStore
from .scans.classes.class_codes import SegmentClass as SegmentClass
from .scans.classes.partial_labels import read_labelled_classes as read_labelled_classes
from .scans.classes.read import read_segments as read_segments
from .scans.classes.scan_classes import match_labels as match_labels
from .scans.classes.segment import Segment as Segment
from .scans.find import list_series as list_series
from .scans.formats.registry import (
    FileFormat as FileFormat,
    register_format as register_format,
    unregister_format as unregister_format,
)
from .scans.geometry import Geometry as Geometry
from .scans.labelled import LabelledScan as LabelledScan
from .scans.labels import (
    load_labels as load_labels,
    read_segment_names as read_segment_names,
    save_labels as save_labels,
)
from .scans.matching.pair_scans import pair_scans as pair_scans
from .scans.matching.patients import (
    describe_patients as describe_patients,
    read_patients as read_patients,
    with_patients as with_patients,
)
from .scans.series import Series as Series
from .scans.slices.annotated import read_annotated as read_annotated
from .scans.volume import Volume as Volume, load_volume as load_volume, load_volumes as load_volumes
from .settings.augmentation import Augmentation as Augmentation
from .settings.networks import (
    Dense3dNetwork as Dense3dNetwork,
    DynUNet2dNetwork as DynUNet2dNetwork,
    DynUNet3dNetwork as DynUNet3dNetwork,
    EfficientNetwork as EfficientNetwork,
    MultiMixNetwork as MultiMixNetwork,
    Network as Network,
    UmapathyNetwork as UmapathyNetwork,
    register_network as register_network,
)
from .settings.preprocessing import (
    CT_WINDOWS as CT_WINDOWS,
    Preprocessing as Preprocessing,
    VolumePreprocessing as VolumePreprocessing,
    Window as Window,
)
from .settings.presets.preset import Preset as Preset
from .settings.presets.registry import (
    PRESETS as PRESETS,
    preset_named as preset_named,
    register_preset as register_preset,
)
from .settings.pretext.context_patches import (
    ContextPrediction as ContextPrediction,
    ContextRestoration as ContextRestoration,
)
from .settings.pretext.global_contrast import GlobalContrast as GlobalContrast
from .settings.pretext.local_contrast import LocalContrast as LocalContrast
from .settings.pretext.masked_patches import MaskedPatches as MaskedPatches
from .settings.pretext.masked_pixels import MaskedPixels as MaskedPixels
from .settings.pretext.models_genesis import ModelsGenesis as ModelsGenesis
from .settings.pretext.polycl import PolyCL as PolyCL
from .settings.pretext.registry import register_task as register_task
from .settings.pretext.siamese_sides import SiameseSides as SiameseSides
from .settings.pretext.sparse_masking import SparseMasking as SparseMasking
from .settings.pretext.volume_fusion import VolumeFusion as VolumeFusion
from .settings.self_training import SelfTraining as SelfTraining
from .settings.stages import (
    FinetuneSettings as FinetuneSettings,
    PretrainSettings as PretrainSettings,
)
from .settings.training import EarlyStopping as EarlyStopping, Training as Training
from .stages.finetune import finetune as finetune, iter_finetune as iter_finetune
from .stages.preset import (
    finetune_preset as finetune_preset,
    iter_finetune_preset as iter_finetune_preset,
    iter_pretrain_preset as iter_pretrain_preset,
    pretrain_preset as pretrain_preset,
)
from .stages.pretrain import iter_pretrain as iter_pretrain, pretrain as pretrain
from .stages.split import split_subjects as split_subjects
from .training.watch import Watch as Watch
