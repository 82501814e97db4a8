"""Automatic saving: every change of the labels reaches the disk within seconds.

Widgets and the napari viewer stay outside; the scene is known through a protocol.
"""
