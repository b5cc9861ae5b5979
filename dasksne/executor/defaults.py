"""The settings of dasksne in Dask's configuration: their defaults, from a file of the package."""

from importlib.resources import files

import dask
import yaml


def add_defaults() -> None:
    """Give Dask's configuration the defaults; nothing is written, and what is set there stays."""
    text = files("dasksne").joinpath("dasksne.yaml").read_text(encoding="utf-8")
    dask.config.update_defaults(yaml.safe_load(text))
