"""Procedural MR and CT patients with organs, the data that needs no download.

True labels come with them.
"""
