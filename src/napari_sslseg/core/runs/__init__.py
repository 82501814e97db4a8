"""The folder of a run: record, training states, history and weights, all read as untrusted files.

Nothing here trains.
"""
