"""The loss of one micro-batch in each training mode, equal in sum to that of the whole batch, however it is cut.

Some terms depend on the batch as a whole: CV^2 on everyone's use of an expert, distances relative to the batch's own
size. So a step has two passes: `prepare` finds, without gradient, what a micro-batch adds to these figures; the loss is
then taken with their mean over all micro-batches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nid_dist.coding.code import Code
from nid_dist.coding.gates.base import GateOutput
from nid_dist.coding.gates.unrolled import UnrolledGate
from nid_dist.coding.solvers import reduce_problem, solve_omp
from nid_dist.coding.topk import noisy_top_k, signed_top_k
from nid_dist.config.schema import Config
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.objectives import data_loss, importance, sparsity, squared_variation

Statistics: TypeAlias = dict[str, Tensor]

_NOISE = 0.3  # of the noisy top-k, relative to the standard deviation of a signal's logits


@dataclass(frozen=True)
class Batch:
    """Signals of a micro-batch.

    Args:
        values: on the model's lattice.
        ids: which training signals they are.
        subset: which coordinates count in the data term; None: all.
        noise_seeds: of the noisy top-k, one per signal, so that the noise does not depend on how a batch is cut.
    """

    values: Float[Tensor, "T C d"]
    ids: Int[Tensor, "T"]
    subset: Int[Tensor, "c"] | None
    noise_seeds: Int[Tensor, "T"]


@dataclass(frozen=True)
class Prepared:
    """What a micro-batch's loss needs besides the model.

    Args:
        batch: signals.
        solved: their codes for the present dictionary, where the mode needs them.
        statistics: means over the micro-batch's signals, to be averaged over micro-batches.
        warm: whether the warm-up is on: dense codes with an L1 penalty.
    """

    batch: Batch
    solved: Code | None
    statistics: Statistics
    warm: bool


@dataclass(frozen=True)
class Loss:
    """A loss with its parts.

    Args:
        total: to be differentiated.
        code: the codes that the experts were evaluated with.
        parts: for the log.
    """

    total: Float[Tensor, ""]
    code: Code
    parts: dict[str, float] = field(default_factory=dict)


@torch.no_grad()
def prepare(model: Model, batch: Batch, config: Config, mode: str, *, warm: bool, alone: bool) -> Prepared:
    """The first pass over a micro-batch.

    Args:
        model: trained.
        batch: signals.
        config: the configuration.
        mode: of the phase.
        warm: whether the warm-up is on (mode `gate`).
        alone: whether it is the whole batch: then nothing is needed of others.

    Returns:
        Solved codes and batch statistics.
    """
    statistics: Statistics = {}
    coords, target = _measured(model, batch)
    solved = None
    if mode == "solve" or (mode == "distill" and _regresses(model, config)):
        solved = _solve(model, coords, target, config)
    if mode == "distill":
        statistics["mean"], statistics["square"] = target.double().mean(), target.double().square().mean()
    if solved is not None and _regresses(model, config):
        statistics["code"] = solved.values.square().sum(1).mean() / model.dictionary.size
        statistics["bias"] = solved.bias.square().mean()
    if mode == "gate" and not alone:
        _, statistics = _gate_code(model, batch, config, warm)
    return Prepared(batch, solved, statistics, warm)


def average(statistics: Sequence[Statistics]) -> Statistics:
    """The statistics of a whole batch from those of its micro-batches, which are of equal size."""
    return {name: torch.stack([each[name] for each in statistics]).mean(0) for name in statistics[0]}


def gate_loss(model: Model, prepared: Prepared, shared: Statistics, config: Config) -> Loss:
    """Mode `gate`, the paper's: gate and experts learn together through the code (Wang et al. 2022, eq. 7 to 9).

    Args:
        model: trained.
        prepared: a micro-batch.
        shared: statistics of the whole batch, or none where the micro-batch is all of it.
        config: the configuration.

    Returns:
        Data loss plus penalties.
    """
    objective, batch = config.objective, prepared.batch
    code, own = _gate_code(model, batch, config, prepared.warm)
    # The value is the whole batch's, and so are the gradients of all micro-batches together.
    usage = {name: shared[name] + value - value.detach() if name in shared else value for name, value in own.items()}
    coords, target = _measured(model, batch)
    data = data_loss(model.dictionary(code, coords), target, objective.loss, objective.huber)
    balance = torch.stack([squared_variation(value) for value in usage.values()]).sum()
    total = data + objective.balance * balance
    parts = {"data": data.item(), "balance": balance.item()}
    if prepared.warm:
        penalty = sparsity(code)
        total = total + objective.l1 * penalty
        parts["l1"] = penalty.item()
    return Loss(total, code, parts)


def solve_loss(model: Model, prepared: Prepared, shared: Statistics, config: Config) -> Loss:
    """Mode `solve`: codes solved for the present dictionary, one gradient step on it with the codes held fixed.

    At the solved code the loss is stationary in the code, so its gradient in the dictionary alone is the gradient of
    the minimum (envelope theorem). A gate that learns by regression learns the solved codes meanwhile.

    Args:
        model: trained.
        prepared: a micro-batch with solved codes.
        shared: statistics of the whole batch.
        config: the configuration.

    Returns:
        Data loss, plus the gate's regression.
    """
    code = prepared.solved
    assert code is not None
    coords, target = _measured(model, prepared.batch)
    data = data_loss(model.dictionary(code, coords), target, config.objective.loss, config.objective.huber)
    total, parts = data, {"data": data.item()}
    if _regresses(model, config):
        output = model.gate_output(prepared.batch.values, prepared.batch.ids)
        regression = code_regression(output, code, shared["code"], shared["bias"])
        total = total + config.objective.distill * regression
        parts["distill"] = regression.item()
    return Loss(total, code, parts)


def distill_loss(model: Model, prepared: Prepared, shared: Statistics, config: Config) -> Loss:
    """Mode `distill`: the gate alone learns the frozen dictionary's codes, by regression and by what f they give.

    Args:
        model: only its gate is trained.
        prepared: a micro-batch.
        shared: statistics of the whole batch.
        config: the configuration.

    Returns:
        The data loss of the gate's code, relative to the signals' variance, plus the regression on solved codes.
    """
    coords, target = _measured(model, prepared.batch)
    output = model.gate_output(prepared.batch.values, prepared.batch.ids)
    code = signed_top_k(output.logits, output.bias, model.support)
    data = data_loss(model.dictionary(code, coords), target, config.objective.loss, config.objective.huber)
    variance = (shared["square"] - shared["mean"].square()).clamp_min(1e-6).to(data.dtype)
    total, parts = data / variance, {"data": data.item()}
    if prepared.solved is not None:
        regression = code_regression(output, prepared.solved, shared["code"], shared["bias"])
        total = total + config.objective.distill * regression
        parts["distill"] = regression.item()
    return Loss(total, code, parts)


LOSSES: dict[str, Callable[[Model, Prepared, Statistics, Config], Loss]] = {
    "gate": gate_loss,
    "solve": solve_loss,
    "distill": distill_loss,
}


def code_regression(
    output: GateOutput, solved: Code, code_square: Float[Tensor, ""], bias_square: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Squared distance of the gate's logits and biases from a solved code, relative to the codes' own squares.

    Args:
        output: the gate's, dense.
        solved: the target, sparse.
        code_square: mean square of the solved codes, zeros included.
        bias_square: mean square of their biases.

    Returns:
        0 when equal; 2, one for logits and one for biases, on average for a gate that outputs zero.
    """
    target = solved.dense(output.logits.shape[1])
    logits = (output.logits - target).square().mean() / code_square.clamp_min(1e-12)
    bias = (output.bias - solved.bias).square().mean() / bias_square.clamp_min(1e-12)
    return logits + bias


def _gate_code(model: Model, batch: Batch, config: Config, warm: bool) -> tuple[Code, Statistics]:
    """The gate's code, and the experts' importance and (noisy top-k) load as means over the signals."""
    output = model.gate_output(batch.values, batch.ids)
    load = None
    if warm:
        code = Code(output.logits, output.bias)
    elif config.coding.gate.noisy:
        # The noise follows the logits' own scale, so that it means the same for every signal, gate and dictionary.
        spread = output.logits.detach().std(1, correction=0, keepdim=True)
        scale = (_NOISE * spread).clamp_min(1e-8).expand_as(output.logits)
        code, load = noisy_top_k(output.logits, scale, output.bias, model.support, _noise(output.logits, batch))
    else:
        code = signed_top_k(output.logits, output.bias, model.support)
    usage = {"importance": importance(code, model.dictionary.size, config.objective.importance)}
    if load is not None:
        usage["load"] = load
    return code, {name: value / code.signals for name, value in usage.items()}


def _noise(logits: Float[Tensor, "T n"], batch: Batch) -> Float[Tensor, "T n"]:
    rows = [
        torch.randn(logits.shape[1], generator=torch.Generator().manual_seed(seed), dtype=logits.dtype)
        for seed in batch.noise_seeds.tolist()
    ]
    return torch.stack(rows).to(logits.device)


def _regresses(model: Model, config: Config) -> bool:
    """Whether the gate learns from solved codes; an unrolled one needs only what f its codes give."""
    learns = model.gate is not None and not isinstance(model.gate, UnrolledGate)
    return learns and config.objective.distill > 0


def _measured(model: Model, batch: Batch) -> tuple[Float[Tensor, "C m"], Float[Tensor, "T C d"]]:
    if batch.subset is None:
        return model.coords, batch.values
    return model.coords[batch.subset], batch.values[:, batch.subset]


def _solve(model: Model, coords: Tensor, target: Tensor, config: Config) -> Code:
    # In full precision whatever the forward pass uses: the systems are ill-conditioned.
    with torch.autocast(coords.device.type, enabled=False):
        problem = reduce_problem(model.dictionary, Sampling(coords), target)
        return solve_omp(problem, model.support, config.coding.blocks, config.coding.ridge).code
