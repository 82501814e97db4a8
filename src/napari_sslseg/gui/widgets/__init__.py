"""Qt widgets that more than one panel uses.

Nothing here knows of a session.
"""
