"""Samples for a network: slices and crops of scans, preprocessed, stored and read in batches.

Augmentation and losses are not here.
"""
