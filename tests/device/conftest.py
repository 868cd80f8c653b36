"""What the trainings and commands on the device work on: fixtures of other folders."""

from tests.tasks.video.decomposition.conftest import clip, trained_clip  # noqa: F401
