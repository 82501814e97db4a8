"""Pretraining and fine-tuning from scans to a run: what is learnt from which scans, from which start.

The loop is in ``training``, the tasks in ``pretext`` and ``segmentation``.
"""
