"""Patches of held-out faces and photographs: the gate's code, ten steps from it and OMP beside best-k DCT and PCA.

The dictionaries are the quickstart's with 2048 experts, trained for five minutes at most. Of the DCT the better of what
a person would try counts: in JPEG's kind of colours or in the data's own.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nid_dist.benchmarks.packages import faces
from nid_dist.benchmarks.simple.line import Line
from nid_dist.coding.method import Method
from nid_dist.config import Config, load_config
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.model import Model
from nid_dist.tasks.images.fit import ImageArray, fit_image
from nid_dist.tasks.images.preparation import prepare
from nid_dist.tasks.images.task import ImageTask
from nid_dist.tasks.images.transforms import Transform, fixed_transforms
from nid_dist.training.run import train

SUPPORTS = (64, 128)
SECONDS = 300.0
_SIDE = 128
_METHODS = {"gate": Method("init"), "steps": Method("adam", 10), "omp": Method("omp", 32)}
_WORDS = {"gate": "the gate's code", "steps": "10 steps from it", "omp": "OMP, 32 blocks"}
_SIMPLE = {"dct": ("dct_best", "dct_own"), "pca": ("pca_best",)}
_PHOTOGRAPHS = ["signals.short_side=192", "signals.val=[retina]", "signals.test=[astronaut, chelsea, coffee]"]


def lines(quick: bool, k: int = SUPPORTS[0]) -> Iterator[Line]:
    """Compare on faces and on photographs, with k coefficients of a patch."""
    folder = faces()
    own = [
        "signals.source=folder",
        f"signals.path={folder}",
        "signals.short_side=null",
        "signals.val=0",
        "signals.test=0",
    ]
    for name, overrides in (("photos", _PHOTOGRAPHS), ("faces", own)):
        with tempfile.TemporaryDirectory() as run:
            yield from compared(name, k, _configuration(overrides, k, Path(run), quick))


def _configuration(overrides: Sequence[str], k: int, run: Path, quick: bool) -> Config:
    given = [
        *overrides,
        f"coding.support={k}",
        "dictionary.experts=2048",
        f"logging.run_dir={run / 'run'}",
        "logging.pictures_every=0",
    ]
    given += [
        "training.eval_every=0",
        "training.checkpoint_every=0",
        "coding.prior_rank=0",
        "logging.tensorboard=false",
    ]
    given += ["training.steps=3"] if quick else ["training.steps=20000", f"training.max_seconds={SECONDS}"]
    return load_config("quickstart.yaml", given)


@dataclass(frozen=True)
class _Fitted:
    """Of all images of a split."""

    db: float  # mean of the images' PSNR
    seconds: float  # for one image, at best


def compared(name: str, k: int, config: Config) -> Iterator[Line]:
    """Train, and compare on the test split."""
    trainer = train(config)
    task, model = ImageTask(config), trainer.model.unsharded().eval()
    images = [prepare(ref.load(), size=_SIDE, name=ref.name) for ref in task.refs["test"]]
    ours = {label: _mean(images, _represented(model, method)) for label, method in _METHODS.items()}
    transforms = fixed_transforms(task)
    simple = {
        label: max((_mean(images, _transformed(transforms[way], k)) for way in ways), key=lambda found: found.db)
        for label, ways in _SIMPLE.items()
    }
    ending = "" if k == SUPPORTS[0] else f"_{k}"
    for label, found in ours.items():
        for other, beside in simple.items():
            yield Line(
                f"db_{name}_{label}_minus_{other}{ending}",
                f"{name} {_SIDE} x {_SIDE}, {k} of {model.dictionary.num_experts}, {trainer.step} steps",
                _WORDS[label],
                found.db,
                f"{other.upper()}, best {k}",
                beside.db,
                seconds=found.seconds,
                simple_seconds=beside.seconds,
            )


Represent = Callable[[ImageArray], tuple[ImageArray, float]]


def _represented(model: Model, method: Method) -> Represent:
    def represent(image: ImageArray) -> tuple[ImageArray, float]:
        fitted = fit_image(model, image, [method])[method.label]
        return fitted.render(), fitted.seconds

    return represent


def _transformed(transform: Transform, k: int) -> Represent:
    def represent(image: ImageArray) -> tuple[ImageArray, float]:
        begin = time.perf_counter()
        picture = transform(image, k)
        return picture, time.perf_counter() - begin

    return represent


def _mean(images: Sequence[ImageArray], represent: Represent) -> _Fitted:
    found = [represent(image) for image in images]
    scores = [psnr(picture, image) for (picture, _), image in zip(found, images, strict=True)]
    return _Fitted(float(np.mean(scores)), min(seconds for _, seconds in found))
