"""`simple`, box: a hole larger than a patch in the middle of held-out images, against biharmonic inpainting."""

import time
import warnings
from collections.abc import Iterable

import numpy as np

from nid_dist.benchmarks.simple.dictionaries import dictionary, held_out
from nid_dist.benchmarks.simple.line import Line
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.tasks.images.biharmonic import biharmonic
from nid_dist.tasks.images.inpainting import inpaint

_SIDE, _BOX = 128, 40
_KEYS = {"photos": ("db_box", "photographs"), "faces": ("db_box_faces", "portraits")}


def lines(quick: bool) -> Iterable[Line]:
    """Mean PSNR inside the box, of both kinds."""
    for kind, (key, name) in _KEYS.items():
        model, ours, simple, seconds = dictionary(kind, quick), [], [], np.zeros(2)
        for image in held_out(kind, _SIDE, quick):
            known, first = np.ones(image.shape[:2], bool), (_SIDE - _BOX) // 2
            known[first : first + _BOX, first : first + _BOX] = False
            begin = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the hole swallows patches is what is measured
                filled = inpaint(model, image, known).filled()
            between = time.perf_counter()
            other = biharmonic(image, known)
            seconds += [between - begin, time.perf_counter() - between]
            ours.append(psnr(filled[~known], image[~known]))
            simple.append(psnr(other[~known], image[~known]))
        each = (seconds / len(ours)).tolist()
        yield Line(
            f"{key}_minus_biharmonic",
            f"a box of {_BOX} x {_BOX} pixels in {name} of {_SIDE} x {_SIDE}",
            "prior of patches, k = 64",
            float(np.mean(ours)),
            "biharmonic",
            float(np.mean(simple)),
            seconds=each[0],
            simple_seconds=each[1],
        )
