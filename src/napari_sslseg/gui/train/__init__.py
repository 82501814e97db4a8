"""Step 4, Train: form of a fine-tuning, its settings, and curves of its scores.

Not here: loss curves and run lists, which both training steps share (``gui/runs``).
"""
