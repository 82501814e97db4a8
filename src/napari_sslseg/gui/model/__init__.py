"""What the window knows, without Qt: the session, its jobs, runs and predictions.

Every panel reads it, and no panel is imported here.
"""
