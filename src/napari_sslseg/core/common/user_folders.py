"""The folders of this program in the home of the user."""

from pathlib import Path

APP = "napari-sslseg"


def user_data_folder() -> Path:
    """Return the folder for data of the user, such as rescued files and examples."""
    from platformdirs import user_data_path

    return user_data_path(APP)


def user_config_folder() -> Path:
    """Return the folder for the configuration, such as the list of recent projects."""
    from platformdirs import user_config_path

    return user_config_path(APP, appauthor=False)
