"""A real window keeps its own objects out of garbage collections, but no scan in memory."""

import gc
import weakref


def test_scans_are_released_although_garbage_is_frozen(ready):
    assert gc.get_freeze_count() > 100_000
    first = [weakref.ref(ready.session.volume.data), weakref.ref(ready.layer.data)]
    first += [weakref.ref(ready.session.volume), weakref.ref(ready.session.labels)]
    ready.session.select("bob")
    ready.until(lambda: ready.session.current == "bob" and not ready.session.jobs)
    gc.collect()
    assert [reference() for reference in first] == [None] * 4
    second = [weakref.ref(ready.scene.image.data), weakref.ref(ready.layer), ready.scene.image]
    second[2] = weakref.ref(second[2])
    ready.session.close()
    gc.collect()
    ready.qtbot.wait(100)
    gc.collect()
    assert [reference() for reference in second] == [None] * 3


def test_garbage_is_collected_as_before_when_the_session_is_closed(ready):
    ready.widget.shutdown.shut_down()
    assert gc.get_freeze_count() == 0
