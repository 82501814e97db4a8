"""Slices of a scan: which are annotated, and ranges of slice numbers as text.

No values of voxels.
"""
