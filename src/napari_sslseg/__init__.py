"""Few-shot segmentation of MR and CT with self-supervised pretraining."""


def __getattr__(name: str) -> str:
    # Looking the version up costs a metadata scan, which opening napari must not pay.
    if name == "__version__":
        from importlib.metadata import version

        return version("napari-sslseg")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
