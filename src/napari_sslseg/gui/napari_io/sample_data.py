"""Sample data for the napari menu: phantom patients, and a public data set to download."""

from napari_sslseg.core.scans.volume import Modality
from napari_sslseg.gui.viewer.layers import LayerData, labels_layer, volume_layer

HIPPOCAMPUS_CASE = "hippocampus_001"


def phantom_mr() -> list[LayerData]:
    """Return an MR scan of a phantom patient with labels."""
    return _phantom("MR")


def phantom_ct() -> list[LayerData]:
    """Return a CT scan of a phantom patient with labels."""
    return _phantom("CT")


def hippocampus_mr() -> list[LayerData]:
    """Return an MR scan of a hippocampus with labels, downloaded on the first call.

    Raises
    ------
    StorageError
        If the download fails; napari shows the message.
    """
    from napari_sslseg.core.demo.public_data import hippocampus
    from napari_sslseg.core.scans.classes.class_list import read_class_names
    from napari_sslseg.core.scans.labels import load_labels
    from napari_sslseg.core.scans.volume import load_volume

    folder = hippocampus()
    name = f"{HIPPOCAMPUS_CASE}.nii.gz"
    scan = load_volume(folder / "images" / name, modality="MR")
    labels = load_labels(folder / "labels" / name, like=scan)
    classes = read_class_names(folder / "classes.json")
    return [volume_layer(scan), labels_layer(labels, classes)]


def _phantom(modality: Modality) -> list[LayerData]:
    # Imported here, because napari may import this module only for the menu entries.
    from napari_sslseg.core.demo.phantom.patient import PHANTOM_CLASSES, make_patient

    scan, labels = make_patient(0, modality)
    return [volume_layer(scan), labels_layer(labels, PHANTOM_CLASSES)]
