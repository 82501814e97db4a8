"""Scans and label maps: read from files of any format, placed in patient space, and written.

Nothing about networks or training.
"""
