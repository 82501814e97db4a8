"""Predictions of a trained network, their scores, and reports.

Nothing here trains a network.
"""
