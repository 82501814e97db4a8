"""Procedural MR and CT patients with organs, the data that needs no download.

No downloads, no reading of scans; each patient comes with true labels.
"""
