"""Pretraining and fine-tuning, from scans to a finished run.

The loop is in ``training``, the tasks in ``pretext`` and ``segmentation``.
"""
