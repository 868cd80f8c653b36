"""Fixtures that several folders share."""

from tests.tiny import images as images
from tests.tiny import run as run
