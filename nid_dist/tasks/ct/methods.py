"""How each method reconstructs a slice from a sinogram in a comparison, and the one number of each that is tuned.

A hyperparameter is set for a number of views and a dose on phantoms kept for validation, for every method alike.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from nid_dist.baselines.config import load_baseline
from nid_dist.baselines.inr import Baseline, Network
from nid_dist.coding.method import Method
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.evaluation.measuring import timed
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose
from nid_dist.measurements.radon import Radon, nodes_for
from nid_dist.model import Model
from nid_dist.tasks.comparison import ComparedMethod, Reconstruction, Subject
from nid_dist.tasks.ct.classical import Classical
from nid_dist.tasks.ct.components import Components, Scanned
from nid_dist.tasks.ct.reconstruction import Reconstructor, disc_coverage

Slice = Float[np.ndarray, "S S"]
Sinogram = Float[np.ndarray, "M"]

_MODEL_ERRORS = (0.001, 0.0015, 0.0025, 0.004, 0.006, 0.01, 0.016)  # besides, for the prior, as the scan says: 0
_BLOCKS = 16  # of codes under the prior: fewer, and a noise that is tuned finds chance
_VARIATIONS = (1.5, 3.0, 6.0, 12.0)  # of total variation, beside the prior
_COMPONENTS = (20, 45, 90, 180, 360)
_RIDGES = (1e-4, 1e-3)
_PENALTIES = (0.003, 0.02)
_WEIGHTS = (2e-4, 5e-4, 1e-3, 2e-3, 4e-3)
_SWEEPS = (2.0, 5.0, 10.0, 20.0)
_LINES = 128  # a network sees in a step: all of a scan would take a second each


def slice_method(
    name: str,
    hyperparameters: Sequence[float | None],
    run: Callable[[Sinogram, float], Slice],
    *,
    classical: bool = False,
    once: float = 0.0,
    takes: Callable[[Subject], bool] = lambda subject: True,
) -> ComparedMethod:
    """A method that makes a slice of a sinogram with a hyperparameter; it is clipped to [0, 1].

    `classical`: it knows no training data. `once`: seconds that it takes once for a geometry, which are not counted.
    """

    def fit(sinogram: Sinogram, hyperparameter: float | None) -> Reconstruction:
        found = run(sinogram, hyperparameter or 0.0)
        costs = {"hyperparameter": hyperparameter, "seconds_once_per_geometry": once, "classical": classical}
        return Reconstruction(lambda: np.clip(found, 0, 1), costs)

    return ComparedMethod(name, fit, hyperparameters, takes=takes)


def classical_methods(geometry: Geometry, side: int) -> list[ComparedMethod]:
    """Filtered back-projection, SART and total variation, for slices of `side` pixels.

    Raises:
        UserError: for a geometry that scikit-image has no word for.
    """
    known = Classical(geometry, side)
    # What no line crosses is as free for these as for the dictionary: nobody is to be judged there.
    disc = disc_coverage(side)[..., 0].numpy()

    def inside(name: str, hyperparameters: Sequence[float], run: Callable[[Sinogram, float], Slice]) -> ComparedMethod:
        return slice_method(name, hyperparameters, lambda y, chosen: run(y, chosen) * disc, classical=True)

    return [
        inside("FBP", [0.0, 1.0], lambda y, hann: known.fbp(y, "hann" if hann else "ramp")),
        inside("SART", _SWEEPS, lambda y, sweeps: known.sart(y, int(sweeps))),
        inside("TV", _WEIGHTS, known.total_variation),
    ]


def dictionary_methods(model: Model, geometry: Geometry, dose: Dose) -> list[ComparedMethod]:
    """The dictionary's solvers; the gate and they see a sinogram and nothing else.

    To measure the features takes its time once for a geometry.
    """
    reconstructor = Reconstructor(model, geometry, dose)
    once = timed(reconstructor.prepare, model.device)[1]
    joint = timed(lambda: reconstructor.joint, model.device)[1] if model.prior else 0.0

    def solver(
        name: str, hyperparameters: Sequence[float], method: Callable[[float], Method], *, noisy: bool = False
    ) -> ComparedMethod:
        def run(sinogram: Sinogram, hyperparameter: float) -> Slice:
            # Each method anew: none is to inherit what another one's hyperparameter was.
            reconstructor.model_error = hyperparameter or None if noisy else None
            chosen = method(hyperparameter)
            fits = reconstructor.solve(sinogram[None].astype(np.float32), [chosen])
            found: Slice = reconstructor.render(fits[chosen.label])[0, ..., 0]
            return found

        return slice_method(name, hyperparameters, run, once=once + (joint if name == "NID detail" else 0.0))

    blocks = model.config.coding.blocks
    found = []
    if model.prior:
        found.append(solver("NID detail", _VARIATIONS, lambda weight: Method("detail", _BLOCKS, variation=weight)))
        found.append(solver("NID map", (0.0, *_MODEL_ERRORS), lambda _: Method("map", _BLOCKS), noisy=True))
    found.append(solver("NID fista", _PENALTIES, lambda penalty: Method("fista", ridge=1e-3, penalty=penalty)))
    found.append(solver("NID omp", _RIDGES, lambda ridge: Method("omp", blocks, ridge)))
    if model.gate_reads_signals:
        found.append(solver("NID ridge", _RIDGES, lambda ridge: Method("ridge", ridge=ridge)))
        found.append(solver("NID gate", [0.0], lambda _: Method("init")))
    return found


def components_method(known: Components, geometry: Geometry, dose: Dose) -> ComparedMethod:
    """A Gaussian on principal components of the training slices, with its own number of them and noise.

    Both are one hyperparameter: 90.004 is 90 components, and a noise of 0.004.
    """
    scanned = Scanned(known, geometry, dose)
    counts = dict.fromkeys(min(count, len(known.components)) for count in _COMPONENTS)

    def run(sinogram: Sinogram, both: float) -> Slice:
        return scanned.reconstruct(sinogram, int(both), both % 1)

    return slice_method("PCA", [count + error for count in counts for error in _MODEL_ERRORS], run)


def network_method(
    path: Path, geometry: Geometry, side: int, seconds: float, takes: Callable[[Subject], bool]
) -> ComparedMethod:
    """A network that is fitted to a sinogram within some seconds, to some lines in each step."""
    baseline = Baseline(load_baseline(path))
    radon = Radon(geometry, nodes_for(side), baseline.device)
    coords = coordinate_grid((side, side))
    inside = (coords.norm(dim=1) <= 1).float()

    def run(sinogram: Sinogram, _: float) -> Slice:
        measured = torch.from_numpy(sinogram).float().to(baseline.device)
        draws = torch.Generator().manual_seed(baseline.config.seed)

        def loss(network: Network) -> torch.Tensor:
            lines = torch.randperm(radon.size, generator=draws)[:_LINES]
            points, weights = radon.points(lines)
            values = network(points.flatten(0, 1).float())[:, 0].unflatten(0, weights.shape)
            return ((weights.float() * values).sum(1) - measured[lines]).square().mean()

        fitted = baseline.minimise(loss, 2, 1, max_seconds=seconds)
        found: Slice = (fitted.render(coords)[:, 0] * inside).reshape(side, side).numpy()
        return found

    return slice_method(path.stem.removesuffix("_ct").upper(), [None], run, takes=takes)
