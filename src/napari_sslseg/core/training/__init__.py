"""The one training loop: schedules, gradients, states, early stopping, live pictures.

What is trained comes in as a ``Job``; no task is named here.
"""
