"""Pretraining and fine-tuning, from scans to a finished run.

The training loop is in ``training``; the tasks are in ``pretext`` and ``segmentation``.
"""
