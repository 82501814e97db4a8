"""Work of napari for its first layers that needs no window, done in a thread before. Needs no Qt.

The first image and labels of a session let napari import SciPy and pandas, and read all units of
measurement. In the main thread that takes one or two seconds, in which the window does not answer.
"""

import threading

import numpy as np

from napari_sslseg.gui.viewer.layers import AXIS_LABELS, UNITS

_lock = threading.Lock()
_prepared = False


def prepare_layers() -> None:
    """Make an image and labels once, so that the next ones are made quickly. Safe in any thread."""
    global _prepared
    from napari.layers import Image, Labels

    with _lock:
        if _prepared:
            return
        data = np.zeros((2, 2, 2), np.uint8)
        image = Image(data, units=UNITS, axis_labels=AXIS_LABELS, contrast_limits=(0, 1))
        labels = Labels(data, units=UNITS, axis_labels=AXIS_LABELS, features={"index": [0]})
        # The extent converts units, as the viewer does.
        _prepared = image.extent.world.shape == labels.extent.world.shape
