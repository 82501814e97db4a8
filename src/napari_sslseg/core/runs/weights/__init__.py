"""Files of weights: checkpoints of our own, and those of others, read without running code.

Which layers start from them is decided in ``stages``.
"""
