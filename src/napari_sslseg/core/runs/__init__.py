"""The folder of a run: its record, states, history and weights, and what a stranger's may hold.

Nothing here trains.
"""
