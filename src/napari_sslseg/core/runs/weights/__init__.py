"""Weight files: checkpoints of this program and of others, read without running code.

The layers that start from them are chosen in ``stages``.
"""
