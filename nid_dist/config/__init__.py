"""The configuration of a run: its schema, and reading and writing it."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nid_dist.config.loading import load_as
    from nid_dist.config.schema import Config
    from nid_dist.config.shipped import find_config

    load_config = Config.from_yaml

__all__ = ["Config", "find_config", "load_as", "load_config"]

_HOMES = {"Config": "schema", "find_config": "shipped", "load_as": "loading"}


def __getattr__(name: str) -> object:
    # Not before it is asked for: the schema reads the sections of all tasks, and each of them starts in this room.
    if name == "load_config":
        from nid_dist.config.schema import Config

        return Config.from_yaml
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"nid_dist.config.{_HOMES[name]}"), name)
