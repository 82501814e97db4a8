"""Scans and label maps: from files of any format to arrays with a place in space, and back.

Nothing here knows of networks or of training.
"""
