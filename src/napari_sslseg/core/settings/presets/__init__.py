"""The papers as settings: one file for each paper, and the registry of all presets.

How a preset is run is in ``stages``.
"""
