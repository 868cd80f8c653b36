"""How each method reconstructs a slice from a sinogram in a comparison, and the one number of each that is tuned.

A hyperparameter is set for a number of views and a dose on phantoms kept for validation, for every method alike.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from nid_dist.baselines.inr import Baseline, Network
from nid_dist.coding.method import Method
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.noise import Dose
from nid_dist.measurements.radon import Radon, nodes_for
from nid_dist.model import Model
from nid_dist.tasks.ct.classical import Classical
from nid_dist.tasks.ct.reconstruction import Reconstructor

Slice = Float[np.ndarray, "S S"]
Sinogram = Float[np.ndarray, "M"]

_MODEL_ERRORS = (0.001, 0.0025, 0.005, 0.01)
_RIDGES = (1e-4, 1e-3)
_PENALTIES = (0.003, 0.02)
_WEIGHTS = (2e-4, 5e-4, 1e-3, 2e-3, 4e-3)
_SWEEPS = (2.0, 5.0, 10.0, 20.0)
_LINES = 128  # a network sees in a step: all of a scan would take a second each


@dataclass(frozen=True)
class TunedMethod:
    """A method at one number of views and dose.

    Args:
        name: in the table.
        hyperparameters: the values to choose from; one where there is nothing to tune.
        run: makes a slice of a sinogram with a hyperparameter.
        classical: whether it is of those that know no training data.
    """

    name: str
    hyperparameters: Sequence[float]
    run: Callable[[Sinogram, float], Slice]
    classical: bool = False

    def timed(self, sinogram: Sinogram, hyperparameter: float) -> tuple[Slice, float]:
        """The slice, clipped to [0, 1], and the seconds that it took."""
        begin = time.perf_counter()
        found = self.run(sinogram, hyperparameter)
        seconds = time.perf_counter() - begin
        return np.clip(found, 0, 1), seconds

    def tune(self, sinograms: Sequence[Sinogram], slices: Sequence[Slice]) -> float:
        """The hyperparameter with the highest mean PSNR."""
        if len(self.hyperparameters) == 1 or not sinograms:
            return self.hyperparameters[0]

        def score(hyperparameter: float) -> float:
            pairs = zip(sinograms, slices, strict=True)
            return float(np.mean([psnr(self.timed(sinogram, hyperparameter)[0], whole) for sinogram, whole in pairs]))

        return max(self.hyperparameters, key=score)


def classical_ways(geometry: Geometry, side: int) -> list[TunedMethod]:
    """Filtered back-projection, SART and total variation.

    Args:
        geometry: of the sinograms.
        side: of the slices, in pixels.

    Returns:
        The ways.

    Raises:
        UserError: for a geometry that scikit-image has no word for.
    """
    known = Classical(geometry, side)
    return [
        TunedMethod("FBP", [0.0, 1.0], lambda y, hann: known.fbp(y, "hann" if hann else "ramp"), True),
        TunedMethod("SART", _SWEEPS, lambda y, sweeps: known.sart(y, int(sweeps)), True),
        TunedMethod("TV", _WEIGHTS, known.total_variation, True),
    ]


def dictionary_ways(model: Model, geometry: Geometry, dose: Dose) -> tuple[list[TunedMethod], float]:
    """The dictionary's solvers; the gate and they see a sinogram and nothing else.

    Args:
        model: trained.
        geometry: of the sinograms.
        dose: with which they are measured.

    Returns:
        The ways, and the seconds that it takes to measure the features, once for a geometry.
    """
    begin = time.perf_counter()
    reconstructor = Reconstructor(model, geometry, dose)
    reconstructor.prepare()
    seconds = time.perf_counter() - begin

    def way(
        name: str, hyperparameters: Sequence[float], method: Callable[[float], Method], *, noisy: bool = False
    ) -> TunedMethod:
        def run(sinogram: Sinogram, hyperparameter: float) -> Slice:
            if noisy:
                reconstructor.model_error = hyperparameter
            chosen = method(hyperparameter)
            fits = reconstructor.solve(sinogram[None].astype(np.float32), [chosen])
            found: Slice = reconstructor.render(fits[chosen.label])[0, ..., 0]
            return found

        return TunedMethod(name, hyperparameters, run)

    blocks = model.config.coding.blocks
    ways = [way("NID map", _MODEL_ERRORS, lambda _: Method("map", blocks), noisy=True)] if model.prior else []
    ways.append(way("NID fista", _PENALTIES, lambda penalty: Method("fista", ridge=1e-3, penalty=penalty)))
    ways.append(way("NID omp", _RIDGES, lambda ridge: Method("omp", blocks, ridge)))
    if model.gate_reads_signals:
        ways.append(way("NID ridge", _RIDGES, lambda ridge: Method("ridge", ridge=ridge)))
        ways.append(way("NID gate", [0.0], lambda _: Method("init")))
    return ways, seconds


def network_way(baseline: Baseline, name: str, geometry: Geometry, side: int, seconds: float) -> TunedMethod:
    """A network that is fitted to the sinogram, some lines in each step.

    Args:
        baseline: what network.
        name: of it.
        geometry: of the sinogram.
        side: of the slice, in pixels.
        seconds: that a fit may take.

    Returns:
        The way.
    """
    radon = Radon(geometry, nodes_for(side))
    coords = coordinate_grid((side, side))
    inside = (coords.norm(dim=1) <= 1).float()

    def run(sinogram: Sinogram, _: float) -> Slice:
        measured = torch.from_numpy(sinogram).float()
        draws = torch.Generator().manual_seed(baseline.config.seed)

        def loss(network: Network) -> torch.Tensor:
            lines = torch.randperm(radon.size, generator=draws)[:_LINES]
            points, weights = radon.points(lines)
            values = network(points.flatten(0, 1).float())[:, 0].unflatten(0, weights.shape)
            return ((weights.float() * values).sum(1) - measured[lines]).square().mean()

        fitted = baseline.minimise(loss, 2, 1, max_seconds=seconds)
        found: Slice = (fitted.render(coords)[:, 0] * inside).reshape(side, side).numpy()
        return found

    return TunedMethod(name, [0.0], run)
