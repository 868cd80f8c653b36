"""The loss of one micro-batch in each training mode, equal in sum to that of the whole batch, however it is cut.

Some terms depend on the batch as a whole: CV^2 on everyone's use of an expert, distances relative to the batch's own
size. So a step has two passes: `prepare` finds, without gradient, what a micro-batch adds to these figures; the loss is
then taken with their mean over all micro-batches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.gates.base import GateOutput
from nid_dist.coding.gates.pursuit import PursuitGate
from nid_dist.coding.gates.unrolled import UnrolledGate
from nid_dist.coding.solvers import solve_codes
from nid_dist.coding.topk import noisy_top_k, signed_top_k
from nid_dist.config.schema import Config
from nid_dist.model import Model
from nid_dist.objectives import data_loss, importance, ordered_sparsity, sparsity, squared_variation
from nid_dist.parallel.world import World
from nid_dist.samples import Batch, Samples

Statistics: TypeAlias = dict[str, Tensor]

_NOISE = 0.3  # of the noisy top-k, relative to the standard deviation of a signal's logits


@dataclass(frozen=True)
class PreparedBatch:
    """What a micro-batch's loss needs besides the model."""

    batch: Batch
    solved: Code | None  # codes for the present dictionary, where the mode needs them
    statistics: Statistics  # means over the micro-batch's signals, to be averaged over micro-batches
    warm: bool  # whether the warm-up is on: dense codes with an L1 penalty


@dataclass(frozen=True)
class Loss:
    """A loss with its parts."""

    total: Float[Tensor, ""]  # to be differentiated
    code: Code  # that the experts were evaluated with
    parts: dict[str, Float[Tensor, ""]] = field(default_factory=dict)  # for the log, without gradient


@torch.no_grad()
def prepare(model: Model, batch: Batch, config: Config, mode: str, *, warm: bool, alone: bool) -> PreparedBatch:
    """The first pass over a micro-batch, on all ranks: solved codes and batch statistics.

    `warm` says whether the warm-up is on (mode `gate`), `alone` whether this is the only micro-batch: then `gate_loss`
    needs no first pass.
    """
    statistics: Statistics = {}
    solved = None
    if mode == "solve" or (mode == "distill" and trains_gate(model, config, "solve")):
        solved = _solve(model, batch.samples, config)
    if mode == "distill":
        target = batch.samples.values.double()
        statistics["mean"], statistics["square"] = target.mean(), target.square().mean()
    if solved is not None and trains_gate(model, config, "solve"):
        statistics["code"] = solved.values.square().sum(1).mean() / model.dictionary.num_experts
        statistics["bias"] = solved.bias.square().mean()
    if mode == "gate" and not alone:
        _, statistics = _gate_code(model, batch, config, warm)
    return PreparedBatch(batch, solved, statistics, warm)


def average(statistics: Sequence[Statistics], weights: Sequence[float], world: World) -> Statistics:
    """The statistics of a whole batch: means over all signals, without gradient, the same on all ranks.

    Given are those of this rank's parts of the micro-batches, all of equal size over all ranks, and their weights.
    """
    shapes = {name: value.shape for name, value in statistics[0].items()}
    if not shapes:
        return {}
    own = [torch.cat([each[name].detach().double().flatten() for name in shapes]) for each in statistics]
    mean = world.all_reduce_mean(torch.stack([w * each for w, each in zip(weights, own, strict=True)]).mean(0))
    parts = mean.split([shape.numel() for shape in shapes.values()])
    return {
        name: part.reshape(shapes[name]).to(statistics[0][name].dtype) for name, part in zip(shapes, parts, strict=True)
    }


def gate_loss(model: Model, prepared: PreparedBatch, shared: Statistics, config: Config, world: World) -> Loss:
    """Mode `gate`, the paper's: gate and experts learn together through the code (Wang et al. 2022, eq. 7 to 9).

    Data loss plus penalties. With one micro-batch `shared`, the statistics of the whole batch, is empty: they are taken
    here.
    """
    objective, batch = config.objective, prepared.batch
    code, own = _gate_code(model, batch, config, prepared.warm)
    shared = shared or average([own], [batch.weight], world)
    # The value is the whole batch's, and so are the gradients of all micro-batches and ranks together.
    usage = {name: shared[name] + value - value.detach() for name, value in own.items()}
    data = _data_loss(model.dictionary(code, batch.samples.coords), batch.samples, config)
    balance = torch.stack([squared_variation(value) for value in usage.values()]).sum()
    total = data + objective.balance * balance
    parts = {"data": data.detach(), "balance": balance.detach()}
    if prepared.warm:
        penalty = sparsity(code)
        total = total + objective.l1 * penalty
        parts["l1"] = penalty.detach()
    if objective.ordered:
        ordered = ordered_sparsity(code, model.dictionary.num_experts, objective.order, model.dictionary.atom_norms())
        total = total + objective.ordered * ordered
        parts["ordered"] = ordered.detach()
    return Loss(total, code, parts)


def solve_loss(model: Model, prepared: PreparedBatch, shared: Statistics, config: Config, world: World) -> Loss:
    """Mode `solve`: codes solved for the present dictionary, one gradient step on it with the codes held fixed.

    At the solved code the loss is stationary in the code, so its gradient in the dictionary alone is the gradient of
    the minimum (envelope theorem). A gate that learns by regression learns the solved codes meanwhile, and one that
    pursues how large their coefficients are.
    """
    code, batch = prepared.solved, prepared.batch
    assert code is not None
    data = _data_loss(model.dictionary(code, batch.samples.coords), batch.samples, config)
    total, parts = data, {"data": data.detach()}
    if trains_gate(model, config, "solve"):
        if isinstance(model.gate, PursuitGate):
            regression = model.gate.unlikelihood(code, shared["code"])
        else:
            output = model.gate_output(batch.gate_input, batch.ids)
            regression = code_regression(output, code, shared["code"], shared["bias"])
        total = total + config.objective.distill * regression
        parts["distill"] = regression.detach()
    return Loss(total, code, parts)


def distill_loss(model: Model, prepared: PreparedBatch, shared: Statistics, config: Config, world: World) -> Loss:
    """Mode `distill`: the gate alone learns the frozen dictionary's codes, by regression and by what f they give.

    The data loss of the gate's code, relative to the signals' variance, plus the regression on solved codes.
    """
    batch = prepared.batch
    output = model.gate_output(batch.gate_input, batch.ids)
    code = signed_top_k(output.logits, output.bias, model.support)
    data = _data_loss(model.dictionary(code, batch.samples.coords), batch.samples, config)
    variance = (shared["square"] - shared["mean"].square()).clamp_min(1e-6).to(data.dtype)
    total, parts = data / variance, {"data": data.detach()}
    if prepared.solved is not None:
        regression = code_regression(output, prepared.solved, shared["code"], shared["bias"])
        total = total + config.objective.distill * regression
        parts["distill"] = regression.detach()
    return Loss(total, code, parts)


LOSSES: dict[str, Callable[[Model, PreparedBatch, Statistics, Config, World], Loss]] = {
    "gate": gate_loss,
    "solve": solve_loss,
    "distill": distill_loss,
}


def code_regression(
    output: GateOutput, solved: Code, code_square: Float[Tensor, ""], bias_square: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Squared distance of the gate's logits and biases from solved codes, relative to the mean squares of these.

    0 when equal; 2, one for logits and one for biases, on average for a gate that outputs zero.
    """
    target = solved.dense(output.logits.shape[1])
    logits = (output.logits - target).square().mean() / code_square.clamp_min(1e-12)
    bias = (output.bias - solved.bias).square().mean() / bias_square.clamp_min(1e-12)
    return logits + bias


def _gate_code(model: Model, batch: Batch, config: Config, warm: bool) -> tuple[Code, Statistics]:
    """The gate's code, and the experts' importance and (noisy top-k) load as means over the signals."""
    output = model.gate_output(batch.gate_input, batch.ids)
    load = None
    if warm:
        code = Code(output.logits, output.bias)
    elif config.coding.gate.noisy:
        # The noise follows the logits' own scale, so that it means the same for every signal, gate and dictionary.
        spread = output.logits.detach().std(1, correction=0, keepdim=True)
        scale = (_NOISE * spread).clamp_min(1e-8).expand_as(output.logits)
        noise = batch.noise(output.logits.shape[1]).to(output.logits.dtype)
        code, load = noisy_top_k(output.logits, scale, output.bias, model.support, noise)
    else:
        code = signed_top_k(output.logits, output.bias, model.support)
    usage = {"importance": importance(code, model.dictionary.num_experts, config.objective.importance)}
    if load is not None:
        usage["load"] = load
    return code, {name: value / code.signals for name, value in usage.items()}


def trains_gate(model: Model, config: Config, mode: str) -> bool:
    """Whether the loss of a mode has a gradient in the gate's parameters.

    In `solve` it has by regression, but an unrolled gate learns only from what f its codes give.
    """
    if mode != "solve":
        return model.gate is not None
    learns = model.gate is not None and not isinstance(model.gate, UnrolledGate)
    return learns and config.objective.distill > 0


def _data_loss(estimate: Float[Tensor, "T C d"], samples: Samples, config: Config) -> Float[Tensor, ""]:
    objective, target = config.objective, samples.values
    if objective.clamp is not None:
        estimate, target = (values.clamp(-objective.clamp, objective.clamp) for values in (estimate, target))
    delta = objective.welsch if objective.loss == "welsch" else objective.huber
    return data_loss(estimate, target, objective.loss, delta, samples.weights if samples.weighted else None)


def _solve(model: Model, samples: Samples, config: Config) -> Code:
    coding = config.coding
    # Where a system has no solution the code is not a number, and so is the loss: the step changes nothing, and nobody
    # has to wait for the answer.
    return solve_codes(model.dictionary, samples, model.support, coding.blocks, coding.ridge, check=False).code
