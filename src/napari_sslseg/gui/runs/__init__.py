"""Widgets for runs that more than one step uses: the list of runs, and a running training.

The steps stay outside; widgets that know no session are in ``widgets``.
"""
