"""The project folder: scans, labels, classes and done slices, safe on the disk.

It knows no window; the window asks it.
"""
