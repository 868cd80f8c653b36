"""The configuration of a run: its schema, and reading and writing it."""

from nid_dist.config.loading import load_as
from nid_dist.config.schema import Config
from nid_dist.config.shipped import find_config

load_config = Config.from_yaml

__all__ = ["Config", "find_config", "load_as", "load_config"]
