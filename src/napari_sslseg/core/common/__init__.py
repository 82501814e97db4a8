"""Shared basics: errors, events, safe files, sizes, text and compute devices.

Nothing about scans, networks or runs.
"""
