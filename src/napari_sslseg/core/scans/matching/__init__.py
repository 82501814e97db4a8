"""What belongs together: scans of one patient, and labels of a scan, by their names.

Nothing that reads voxels.
"""
