"""Sample data of the napari menu: phantom patients, and a public set for whoever asks for it."""

from napari_sslseg.core.scans.volume import Modality
from napari_sslseg.gui.viewer.layers import LayerData, labels_layer, volume_layer

HIPPOCAMPUS_CASE = "hippocampus_001"


def phantom_mr() -> list[LayerData]:
    """Sample data: an MR scan of a phantom patient and its labels."""
    return _phantom("MR")


def phantom_ct() -> list[LayerData]:
    """Sample data: a CT scan of a phantom patient and its labels."""
    return _phantom("CT")


def hippocampus_mr() -> list[LayerData]:
    """Sample data: an MR scan of a hippocampus and its labels, downloaded once.

    Raises
    ------
    StorageError
        If it cannot be had; napari shows the sentence.
    """
    from napari_sslseg.core.demo.public_data import hippocampus
    from napari_sslseg.core.scans.labelled import read_class_names
    from napari_sslseg.core.scans.labels import load_labels
    from napari_sslseg.core.scans.volume import load_volume

    folder = hippocampus()
    name = f"{HIPPOCAMPUS_CASE}.nii.gz"
    scan = load_volume(folder / "images" / name, modality="MR")
    labels = load_labels(folder / "labels" / name, like=scan)
    classes = read_class_names(folder / "classes.json")
    return [volume_layer(scan), labels_layer(labels, classes)]


def _phantom(modality: Modality) -> list[LayerData]:
    # napari may load this module for the menu entries alone.
    from napari_sslseg.core.demo.phantom.patient import PHANTOM_CLASSES, make_patient

    scan, labels = make_patient(0, modality)
    return [volume_layer(scan), labels_layer(labels, PHANTOM_CLASSES)]
