"""The segmentation networks: encoder, decoder and output layer of each, built from settings.

Training is in ``core.training``, the settings are in ``core.settings.networks``.
"""
