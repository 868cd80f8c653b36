"""What the trainings and commands on the device work on: fixtures of other files."""

from tests.cli.test_decompose import video_run  # noqa: F401
from tests.cli.test_reconstruct import chain  # noqa: F401
from tests.tasks.conftest import folder  # noqa: F401
from tests.tasks.ct.test_comparison import config  # noqa: F401
