"""Previews of pretext tasks, as files and during a training, made by the code that trains.

Predictions of segmentations are shown by ``core.training.watch``.
"""
