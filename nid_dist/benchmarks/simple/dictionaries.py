"""Dictionaries of patches of portraits and of photographs, each trained once for all jobs of one process."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path

from nid_dist.benchmarks.harness import QUIET
from nid_dist.benchmarks.packages import faces
from nid_dist.config import Config, load_config
from nid_dist.data.reading import read_image
from nid_dist.model import Model
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.fit import ImageArray
from nid_dist.tasks.images.preparation import prepare
from nid_dist.tasks.images.sources import list_images
from nid_dist.training.run import train

_SECONDS = 150.0  # of training
_COMMON = (
    # The gate is not asked: all time is the dictionary's and the prior's.
    "coding.gate={kind: none}",
    "coding.phases=[{mode: solve}]",
    "coding.prior_signals=20000",
    "coding.mixture=32",
    "training.steps=100000",
    *QUIET,
)
_PHOTOS = ("signals.short_side=192", "signals.val=[retina]", "signals.test=[astronaut, chelsea, coffee]")
_TINY = (
    "dictionary={experts: 32, width: 16, encoding: {features: 8}}",
    "coding.support=4",
    "training.steps=5",
    "coding.prior_signals=300",
)


@cache
def dictionary(kind: str, quick: bool) -> Model:
    """The dictionary of `faces` or of `photos`, trained on what is not held out."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        given = [
            *_of(kind),
            f"training.max_seconds={_SECONDS}",
            f"logging.run_dir={folder}/run",
            *(_TINY if quick else ()),
        ]
        return train(load_config("quickstart", [*_COMMON, *given])).model.eval()


def _of(kind: str) -> tuple[str, ...]:
    if kind == "photos":
        return _PHOTOS
    source = ("signals.source=folder", f"signals.path={faces()}", "signals.short_side=null")
    return (*source, "signals.val=0", "signals.test=0")


def held_out(kind: str, side: int, quick: bool) -> Iterator[ImageArray]:
    """Squares of images of the kind that are not trained on."""
    if kind == "faces":
        for path in sorted(Path(faces(), "test").glob("*.png"))[: 1 if quick else None]:
            yield prepare(read_image(path, "rgb"), size=side, name=path.name)
        return
    config: Config = load_config("quickstart", list(_PHOTOS))
    for ref in list_images(config.signals_of(ImagesSection))["test"][: 1 if quick else None]:
        yield prepare(ref.load(), size=side, name=ref.name)
