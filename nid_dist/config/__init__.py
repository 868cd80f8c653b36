"""The configuration of a run: its schema, and reading and writing it."""

from nid_dist.config.loading import load_as
from nid_dist.config.schema import Config

load_config = Config.from_yaml

__all__ = ["Config", "load_as", "load_config"]
