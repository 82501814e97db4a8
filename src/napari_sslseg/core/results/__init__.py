"""What a trained network gives: predictions, scores, reports.

Nothing here trains.
"""
