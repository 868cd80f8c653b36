"""What is wrong with a sinogram is said, and of what is right nothing, whatever was scanned."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from skimage.transform import radon as skimage_radon

from nid_dist.errors import DoubtfulMeaning, UserError
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose
from nid_dist.tasks.ct.inspection import inspect
from nid_dist.tasks.ct.phantoms import Phantom, named_phantom
from nid_dist.tasks.ct.scans import scan, within_disc
from nid_dist.tasks.ct.sinograms import read_scan, read_scans
from nid_dist.tasks.ct.slices import named_slice
from nid_dist.tasks.ct.volumes import neighbouring_slice
from nid_dist.tasks.images.config import PhotosSection

BINS = 65
Sinogram = np.ndarray


def even(views: int, source: float | None = None, bins: int = BINS) -> Geometry:
    return Geometry.even(views, bins, source)


def body(seed: int = 1) -> Phantom:
    return named_phantom(f"phantom-{seed:05d}", 3) if seed % 2 else neighbouring_slice(10 + 9 * seed, 100, seed)


def measured(geometry: Geometry, dose: Dose, seed: int = 1) -> Sinogram:
    clean = body(seed).sinogram(geometry).reshape(geometry.views, geometry.bins)
    return dose.measure(clean, np.random.default_rng(seed))


DOSES = pytest.mark.parametrize("dose", [Dose(), Dose(1e4)], ids=["clean", "1e4 photons"])
BEAMS = pytest.mark.parametrize("source", [None, 3.0], ids=["parallel", "fan"])


@DOSES
@BEAMS
@pytest.mark.parametrize("views", [4, 8, 16, 32, 64, 128])
def test_silent_on_what_is_right(views: int, source: float | None, dose: Dose) -> None:
    for seed in range(4):
        assert inspect(measured(even(views, source), dose, seed), even(views, source), dose) == []
    few = even(views, source, 17)
    assert inspect(measured(few, dose), few, dose) == []


@BEAMS
def test_silent_on_real_slices_and_empty_ones(source: float | None) -> None:
    signals = PhotosSection(source="embedded", size=BINS, patch=None, colour="grey")
    for name in ("camera", "retina"):
        geometry = even(16, source)
        values = scan(within_disc(named_slice(name)), signals, geometry).astype(float).reshape(16, BINS)
        for dose in (Dose(), Dose(1e4)):
            assert inspect(dose.measure(values, np.random.default_rng(0)), geometry, dose) == []
    assert inspect(np.zeros((16, BINS)), even(16, source), Dose()) == []
    noise = Dose(1e4).measure(np.zeros((16, BINS)), np.random.default_rng(0))
    assert inspect(noise, even(16, source), Dose(1e4)) == []
    anything = np.random.default_rng(0).uniform(0, 1, (16, BINS))
    assert inspect(anything, even(16, source), Dose())[0].cause == "nothing"


@pytest.mark.parametrize(
    ("true", "said", "words"),
    [
        ({"source": 3.0}, {"source": 6.0}, "from a source at 3"),
        ({"source": 4.0}, {"source": 2.0}, "from a source at 3.9"),
        ({"source": 1.25, "detector": "arc"}, {"source": 1.25}, "on a detector that is arc"),
    ],
)
def test_another_fan_is_said(true: dict[str, Any], said: dict[str, Any], words: str) -> None:
    """The source is found to a tenth, on a detector that is as wide on the axis as is said."""
    geometry = replace(even(64, 1.5), **true)
    (found,) = inspect(measured(geometry, Dose(), 3), replace(geometry, detector="flat", **said), Dose())
    assert (found.cause, found.certain) == ("fan", False) and words in found.found, found


def shifted(geometry: Geometry, dose: Dose) -> Sinogram:
    return measured(replace(geometry, offset=-2 * geometry.pitch), dose)


def of_another_arc(geometry: Geometry, dose: Dose) -> Sinogram:
    times = 2.0 if geometry.source is None else 0.5
    return measured(replace(geometry, angles=times * geometry.angles), dose)


def transposed(geometry: Geometry, dose: Dose) -> Sinogram:
    return measured(replace(geometry, bins=geometry.views), dose).T


def with_bin(geometry: Geometry, dose: Dose, value: float = 0.0) -> Sinogram:
    values = measured(geometry, dose)
    values[:, 40] = value
    return values


def with_view(geometry: Geometry, dose: Dose, times: float = 0.0) -> Sinogram:
    values = measured(geometry, dose)
    values[7] *= times
    return values


def shuffled(geometry: Geometry, dose: Dose) -> Sinogram:
    return measured(geometry, dose)[np.random.default_rng(0).permutation(geometry.views)]


def changed(change: Callable[[Sinogram], Sinogram], geometry: Geometry, dose: Dose) -> Sinogram:
    return change(measured(geometry, dose))


def of_a_larger_body(geometry: Geometry, dose: Dose) -> Sinogram:
    ellipses = body().ellipses.copy()
    ellipses[:, 1:5] *= 1.3
    values = Phantom(ellipses).sinogram(geometry).reshape(geometry.views, geometry.bins)
    return dose.measure(values, np.random.default_rng(0))


WRONG: dict[str, tuple[Callable[[Geometry, Dose], Sinogram], str, str]] = {
    "axis": (shifted, "axis", r"set axis: 3[34]\.\d\d"),
    "arc": (of_another_arc, "views", "correct arc in the geometry, to (360|180) degrees"),
    "sign": (partial(changed, lambda p: -p), "sign", "negate"),
    "transmissions": (partial(changed, lambda p: np.exp(-2 * p)), "inverted", "minus the logarithm"),
    "counts": (partial(changed, lambda p: np.round(5e3 * np.exp(-2 * p))), "inverted", "minus the logarithm"),
    "transposed": (transposed, "transposed", "transpose it"),
    "dead bin": (with_bin, "dead bins", "fill them in"),
    "stuck bin": (partial(with_bin, value=0.9), "dead bins", "fill them in"),
    "dead view": (with_view, "dead views", "remove these views"),
    "saturated": (partial(changed, lambda p: np.minimum(p, 0.7 * p.max())), "saturated", "more photons"),
    "shuffled": (shuffled, "order", "sort the views"),
    "scale": (partial(changed, lambda p: 10 * p), "scale", "correct scale"),
    "blank": (partial(changed, lambda p: p - 0.05), "blank", "divide by the blank scan"),
    "constant": (partial(changed, lambda p: p + 0.2), "blank", "divide by the blank scan"),
    "beyond": (of_a_larger_body, "beyond", "correct radius"),
}


@DOSES
@BEAMS
@pytest.mark.parametrize("name", WRONG)
def test_says_what_is_wrong(name: str, source: float | None, dose: Dose) -> None:
    wrong, cause, hint = WRONG[name]
    geometry = even(64, source, 64 if name == "transposed" else BINS)
    found = inspect(wrong(geometry, dose), geometry, dose)
    assert found and found[0].cause == cause, found
    assert re.search(hint, found[0].hint)
    if cause == "axis":
        assert found[0].axis == pytest.approx(34, abs=0.15)


def test_a_quarter_of_a_turn_is_no_axis() -> None:
    """What another arc explains with the axis in place, and an axis elsewhere only nearly."""
    geometry = even(32, bins=32)
    said = inspect(measured(geometry, Dose()), replace(geometry, angles=geometry.angles / 2), Dose())
    assert said[0].hint == "correct arc in the geometry, to 180 degrees"


def test_other_beams_directions_and_views() -> None:
    fan, parallel = even(64, 3.0), even(64)
    back = measured(replace(fan, angles=-fan.angles), Dose(), 4)
    assert "direction" in inspect(back, fan, Dose())[0].hint
    spread = measured(replace(fan, angles=parallel.angles), Dose(), 3)
    assert inspect(spread, parallel, Dose())[0].cause == "contradiction"
    brighter = inspect(with_view(parallel, Dose(), 1.3), parallel, Dose())[0]
    assert brighter.cause == "masses" and brighter.found.startswith("view 7 ")


def test_doses_that_the_noise_does_not_have() -> None:
    geometry = even(16)
    clean, noisy = measured(geometry, Dose()), measured(geometry, Dose(1e4))
    (said,) = inspect(noisy, geometry, Dose())
    assert said.cause == "photons"
    assert float(said.hint.rsplit(" ", 1)[1]) == pytest.approx(1e4, rel=0.5)
    assert inspect(clean, geometry, Dose(1e4))[0].cause == "photons"
    assert inspect(measured(geometry, Dose(3e2)), geometry, Dose(1e5))[0].cause == "photons"
    assert inspect(clean / 60, geometry, Dose())[0].cause == "faint"


def test_numbers_of_few_levels_and_half_floats() -> None:
    geometry = even(16)
    clean = measured(geometry, Dose())
    coarse = np.round(clean * 10)
    assert inspect(coarse / 10, geometry, Dose(), 0.1)[-1].cause == "steps"
    assert inspect(clean.astype(np.float16).astype(float), geometry, Dose()) == []


def written(folder: Path, **changes: Any) -> Path:
    (folder / "g.yaml").write_text(yaml.safe_dump({"unit": "degrees", "views": 16, "bins": BINS} | changes))
    return folder / "g.yaml"


def test_scikit_image_s_radon_is_recognised(tmp_path: Path) -> None:
    """Of an even side its axis is half a bin off: said, with what to write; and written, nothing is said."""
    image = body().image(64) * (np.hypot(*np.mgrid[-32:32, -32:32]) <= 31)
    theirs = skimage_radon(image, np.arange(16) * 180 / 16)
    with pytest.warns(DoubtfulMeaning, match=r"set axis: 3[12]\.\d+ in the geometry \(or convention: skimage"):
        read_scan(theirs.T, written(tmp_path, bins=64, radius=32))
    read_scan(theirs, written(tmp_path, bins=64, convention="skimage"))


def test_a_cause_is_said_once_of_a_stack(tmp_path: Path) -> None:
    geometry = even(16)
    stack = np.stack([measured(replace(geometry, offset=-2 * geometry.pitch), Dose(), seed) for seed in range(5)])
    stack[3] = measured(geometry, Dose(), 3)
    with pytest.warns(DoubtfulMeaning, match=r"in 4 of 5 slices, such as slice-00000.* set axis: 34\.0") as said:
        assert len(read_scans(stack, written(tmp_path))) == 5
    assert len(said) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: np.where(np.arange(BINS) == 7, np.nan, p), "16 of 1040 numbers that are NaN or infinite: bin 7"),
        (lambda p: np.where(np.arange(16)[:, None] == 3, np.nan, p), "infinite: view 3"),
        (lambda p: np.where(p > 0.4, np.inf, p), "set those that counted nothing to one photon"),
        (lambda p: np.stack([p, p], 1), r"\[views, slices, bins\], expected .* numpy.moveaxis of it, from 1 to 0"),
        (lambda p: p.T, "transpose it"),
        (lambda p: p > 0, "numbers of type bool"),
    ],
)
def test_files_of_other_scans(change: Callable[[Sinogram], Sinogram], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        read_scans(change(measured(even(16), Dose())), written(tmp_path))
