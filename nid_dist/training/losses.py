"""The loss of one micro-batch in each training mode."""

from dataclasses import dataclass, field

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

_NOISE = 0.3  # of the noisy top-k, relative to the logits' standard deviation


@dataclass(frozen=True)
class Batch:
    """Signals of a micro-batch.

    Args:
        values: on the model's lattice.
        ids: which training signals they are.
        subset: which coordinates count in the data term; None: all.
        generator: of the gate's noise.
    """

    values: Float[Tensor, "T C d"]
    ids: Int[Tensor, "T"]
    subset: Int[Tensor, "c"] | None
    generator: torch.Generator


@dataclass(frozen=True)
class Loss:
    """A loss with its parts.

    Args:
        total: to be differentiated.
        code: the codes that the experts were trained on.
        parts: for the log.
    """

    total: Float[Tensor, ""]
    code: Code
    parts: dict[str, float] = field(default_factory=dict)


def gate_loss(model: Model, batch: Batch, config: Config, warm: bool) -> Loss:
    """Mode `gate`, the paper's: gate and experts learn together through the code (Wang et al. 2022, eq. 7 to 9).

    Args:
        model: trained.
        batch: signals.
        config: the configuration.
        warm: whether the warm-up is on: dense codes with an L1 penalty.

    Returns:
        Data loss plus penalties.
    """
    objective, experts = config.objective, model.dictionary.size
    if isinstance(model.gate, UnrolledGate):
        model.synchronise_gate(analysis=False)
    output = model.gate_output(batch.values, batch.ids)
    load = None
    if warm:
        code = Code(output.logits, output.bias)
    elif config.coding.gate.noisy:
        # The noise follows the logits' own scale, so that it means the same for every gate and dictionary.
        scale = (_NOISE * output.logits.detach().std()).expand_as(output.logits).clamp_min(1e-8)
        code, load = noisy_top_k(output.logits, scale, output.bias, model.support, batch.generator)
    else:
        code = signed_top_k(output.logits, output.bias, model.support)
    coords, target = _measured(model, batch)
    data = data_loss(model.dictionary(code, coords), target, objective.loss, objective.huber)
    balance = squared_variation(importance(code, experts, objective.importance))
    if load is not None:
        balance = balance + squared_variation(load)
    total = data + objective.balance * balance
    parts = {"data": data.item(), "balance": balance.item()}
    if warm:
        penalty = sparsity(code)
        total = total + objective.l1 * penalty
        parts["l1"] = penalty.item()
    return Loss(total, code, parts)


def solve_loss(model: Model, batch: Batch, config: Config) -> Loss:
    """Mode `solve`: codes solved for the present dictionary, one gradient step on it with the codes held fixed.

    At the solved code the loss is stationary in the code, so its gradient in the dictionary alone is the gradient of
    the minimum (envelope theorem). A gate that learns by regression learns the solved codes meanwhile.

    Args:
        model: trained.
        batch: signals.
        config: the configuration.

    Returns:
        Data loss, plus the gate's regression.
    """
    coords, target = _measured(model, batch)
    code = _solved(model, coords, target, config)
    data = data_loss(model.dictionary(code, coords), target, config.objective.loss, config.objective.huber)
    total, parts = data, {"data": data.item()}
    if model.gate is not None and not isinstance(model.gate, UnrolledGate) and config.objective.distill > 0:
        regression = code_regression(model.gate_output(batch.values, batch.ids), code, model.dictionary.size)
        total = total + config.objective.distill * regression
        parts["distill"] = regression.item()
    return Loss(total, code, parts)


def distill_loss(model: Model, batch: Batch, config: Config) -> Loss:
    """Mode `distill`: the gate alone learns the frozen dictionary's codes, by regression and by what f they give.

    Args:
        model: only its gate is trained.
        batch: signals.
        config: the configuration.

    Returns:
        The data loss of the gate's code, relative to the signals' variance, plus the regression on solved codes.
    """
    coords, target = _measured(model, batch)
    output = model.gate_output(batch.values, batch.ids)
    code = signed_top_k(output.logits, output.bias, model.support)
    data = data_loss(model.dictionary(code, coords), target, config.objective.loss, config.objective.huber)
    total, parts = data / target.var().clamp_min(1e-6), {"data": data.item()}
    if not isinstance(model.gate, UnrolledGate) and config.objective.distill > 0:
        solved = _solved(model, coords, target, config)
        regression = code_regression(output, solved, model.dictionary.size)
        total = total + config.objective.distill * regression
        parts["distill"] = regression.item()
    return Loss(total, code, parts)


def code_regression(output: GateOutput, solved: Code, experts: int) -> Float[Tensor, ""]:
    """Squared distance of the gate's logits and biases from a solved code, relative to the code's own square.

    Args:
        output: the gate's, dense.
        solved: the target, sparse.
        experts: n.

    Returns:
        0 when equal, 1 for a gate that outputs zero.
    """
    target = solved.dense(experts)
    logits = (output.logits - target).square().mean() / target.square().mean().clamp_min(1e-12)
    bias = (output.bias - solved.bias).square().mean() / solved.bias.square().mean().clamp_min(1e-12)
    return logits + bias


def _measured(model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
    if batch.subset is None:
        return model.coords, batch.values
    return model.coords[batch.subset], batch.values[:, batch.subset]


@torch.no_grad()
def _solved(model: Model, coords: Tensor, target: Tensor, config: Config) -> Code:
    # In full precision whatever the forward pass uses: the systems are ill-conditioned.
    with torch.autocast(coords.device.type, enabled=False):
        problem = reduce_problem(model.dictionary, Sampling(coords), target)
        return solve_omp(problem, model.support, config.coding.blocks, config.coding.ridge).code
