"""Step 2, Pretrain: methods, settings form, preview and live pictures of a training.

Not here: curves and run lists, which both training steps share (``gui/runs``).
"""
