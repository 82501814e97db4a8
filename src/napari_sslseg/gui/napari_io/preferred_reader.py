"""The reader that napari uses for files of scans that are dropped on the picture."""

PLUGIN = "napari-sslseg"
PATTERNS = (
    "*.nii", "*.nii.gz", "*.nrrd", "*.nhdr", "*.mha", "*.mhd", "*.dcm", "*.dicom", "*.ima",
)  # fmt: skip
"""Files of scans only. napari would ask for each of them which plugin is to read it, and proposes
its own reader, which reads none of them."""

PREFERRED = (
    "Scans that are dropped on the picture (NIfTI, NRRD, MetaImage, DICOM) open with this plugin "
    "from now on. Preferences, Plugins changes that."
)


def prefer_reader() -> bool:
    """Choose this plugin for file names without a chosen reader; whether there were any."""
    from napari.settings import get_settings

    plugins = get_settings().plugins
    chosen = dict(plugins.extension2reader)
    free = [pattern for pattern in PATTERNS if pattern not in chosen]
    if free:
        plugins.extension2reader = chosen | dict.fromkeys(free, PLUGIN)
    return bool(free)
