"""The headless core. Names are imported on first use, so this import costs next to nothing."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
