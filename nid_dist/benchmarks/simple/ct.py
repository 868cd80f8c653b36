"""`simple`, CT: slices whose neighbours in a volume were trained on, against components of the same slices."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nid_dist.benchmarks.harness import QUIET
from nid_dist.benchmarks.packages import brain
from nid_dist.benchmarks.simple.line import Line
from nid_dist.config import Config, find_config, load_config
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.evaluation.measuring import timed
from nid_dist.measurements.noise import Dose
from nid_dist.model import Model
from nid_dist.tasks.comparison import ComparedMethod
from nid_dist.tasks.ct.components import Components
from nid_dist.tasks.ct.methods import components_method, dictionary_methods
from nid_dist.tasks.ct.scans import scan, scan_geometry, scannable
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.sources import list_images
from nid_dist.tasks.images.task import prepared
from nid_dist.training.run import train

VIEWS = (4, 8, 16)
_SLICES = range(20, 145)  # of the head that are not nearly empty
_SMALL = ("experts=64", "width=32", "encoding.features=1156")
_TINY = ("signals.size=17", "coding.support=16", "training.steps=2", "training.batch=4")

Given = tuple[np.ndarray, np.ndarray]
"""A scan, and the slice."""


def lines(quick: bool) -> Iterable[Line]:
    """A head, and a body of random ellipsoids: a dictionary of 100 slices, in 90 s at most, for those between."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _compare("", "CT of a head", Path(folder, "head"), _head(Path(folder, "slices")), quick)
        yield from _compare("ellipsoids_", "CT of ellipsoids", Path(folder, "ellipsoids"), (), quick)


def _head(folder: Path) -> Sequence[str]:
    """The head's slices as files, padded to squares, and what makes a dictionary of them."""
    volume = brain()
    side = max(volume.shape[1:])
    rows, columns = ((side - size) // 2 for size in volume.shape[1:])
    folder.mkdir()
    for place, height in enumerate(_SLICES):
        square = np.zeros((side, side), np.float32)
        square[rows : rows + volume.shape[1], columns : columns + volume.shape[2]] = volume[height]
        np.save(folder / f"slice-{place:05d}.npy", square)
    apart = "val: ['slice-????7.npy'], test: ['slice-????2.npy']"
    return [f"signals={{source: folder, path: {folder}, size: 65, patch: null, colour: grey, {apart}}}"]


def _compare(tag: str, job: str, run: Path, source: Sequence[str], quick: bool) -> Iterable[Line]:
    tiny = [*_TINY, *(f"dictionary.{part}" for part in _SMALL)]
    config = load_config(
        find_config("ct_volume"), [*source, *QUIET, *(tiny if quick else ()), f"logging.run_dir={run}"]
    )
    model = train(config).model
    assert config.tomography is not None
    refs = {split: [scannable(ref) for ref in found] for split, found in list_images(_section(config)).items()}
    slices = {split: [prepared(ref, config)[..., 0] for ref in found] for split, found in refs.items()}
    components = Components.of(np.stack(slices["train"]))
    for views in VIEWS:
        geometry = scan_geometry(config.tomography, model.grid_shape[0], views)
        given = {
            split: [(scan(ref, _section(config), geometry), whole) for ref, whole in pairs]
            for split in ("val", "test")
            for pairs in [zip(refs[split], slices[split], strict=True)]
        }
        ours = dictionary_methods(model, geometry, Dose())[0]
        simple = components_method(components, geometry, Dose())
        (our_db, seconds), (simple_db, simple_seconds) = (_judge(method, given, model) for method in (ours, simple))
        yield Line(
            f"db_ct_{tag}{views}_minus_pca",
            f"{job}, {views} views",
            "map",
            our_db,
            "Gaussian on principal components",
            simple_db,
            seconds=seconds,
            simple_seconds=simple_seconds,
        )


def _section(config: Config) -> ImagesSection:
    return config.signals_of(ImagesSection)


def _judge(method: ComparedMethod, given: dict[str, list[Given]], model: Model) -> tuple[float, float]:
    """Mean PSNR of the test slices and seconds of one, with what the validation slices are best reconstructed by."""

    def reconstruct(scans: Sequence[Given], hyperparameter: float | None) -> float:
        found: list[Any] = [method.fit(sinogram, hyperparameter).render() for sinogram, _ in scans]
        scores = [psnr(picture.astype(np.float32), whole) for picture, (_, whole) in zip(found, scans, strict=True)]
        return float(np.mean(scores))

    best = max(method.hyperparameters, key=lambda each: reconstruct(given["val"], each))
    found, seconds = timed(lambda: reconstruct(given["test"], best), model.device)
    return found, seconds / len(given["test"])
