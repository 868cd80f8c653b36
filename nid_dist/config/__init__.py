"""The configuration of a run: its schema, and reading and writing it."""

from nid_dist.config.loading import dump_config, load_as, load_config
from nid_dist.config.schema import Config
from nid_dist.config.shipped import find_config

__all__ = ["Config", "dump_config", "find_config", "load_as", "load_config"]
