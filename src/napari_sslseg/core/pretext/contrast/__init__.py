"""Tasks that compare images: selection of pairs, views, and contrastive losses.

Tasks that restore an image are in ``restoration``.
"""
