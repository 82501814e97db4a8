"""Random corruptions of images; each draws its parameters first and applies them afterwards.

Networks and losses are in ``restoration``.
"""
