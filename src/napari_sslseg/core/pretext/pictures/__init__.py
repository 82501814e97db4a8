"""Pictures of what a pretext task does, as files and as events of a training.

They show the same code that trains.
"""
