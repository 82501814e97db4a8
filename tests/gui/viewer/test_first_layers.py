"""The slow imports of napari's first layers happen in the thread that loads a scan."""

import subprocess
import sys
import threading

from napari.components import ViewerModel

from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.viewer.scene import Scene
from scene_project import until, write_project

FIRST = """
import sys, threading
import numpy as np
from napari.components import ViewerModel
from napari_sslseg.gui.viewer.quick_layers.first_layers import prepare_layers
from napari_sslseg.gui.viewer.layers import AXIS_LABELS, UNITS
viewer = ViewerModel()
thread = threading.Thread(target=prepare_layers)
thread.start()
thread.join()
before = set(sys.modules)
data = np.zeros((2, 3, 4), np.uint8)
viewer.add_image(data, units=UNITS, axis_labels=AXIS_LABELS, contrast_limits=(0, 1))
viewer.add_labels(data, units=UNITS, axis_labels=AXIS_LABELS, features={"index": [0]})
print(len(set(sys.modules) - before), {"pandas", "scipy.ndimage", "pint"} <= before)
"""


def test_nothing_slow_is_left_for_the_first_layers():
    done = subprocess.run(
        [sys.executable, "-c", FIRST], capture_output=True, text=True, check=True, timeout=120
    )
    count, known = done.stdout.split()[-2:]
    assert known == "True"
    assert int(count) < 20  # Without the preparation there are more than 500.


def test_layers_are_prepared_before_a_scan_is_shown_and_not_in_the_main_thread(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    session, found = Session(), []
    scene = Scene(session, ViewerModel())
    session.while_loading(lambda: found.append((threading.current_thread().name, session.current)))
    assert session.open(write_project(tmp_path))
    until(session, lambda: scene.image is not None)
    assert found == [("sslseg-load", "")]
    session.close()
