"""Contrastive tasks: pair selection, views, losses.

Tasks that restore an image are in ``restoration``.
"""
