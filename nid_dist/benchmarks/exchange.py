"""`exchange`: what a step with sharded experts sends, and its time, against three other ways to do the job.

A step is forward and backward of f for T signals of each rank. nid_dist sends each owner its part of a code, and gets
one partial sum of merged heads back per signal. Against that:

- textbook: the same f, with the same codes and equal results, by tokens (see `textbook`).
- DeepSpeed's and fairscale's own layers, the nearest that they offer to the job (see `stock_layers`, which says exactly
  what differs). Besides nid_dist with d = 3 there is one with d = h, whose experts are as large as theirs.

Bytes are those that leave a rank in a step, in both directions; milliseconds are medians of the slowest rank, all ways
taking turns in the same processes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from nid_dist.benchmarks.sharded import ShardedCase, Size, joined, summary, together
from nid_dist.benchmarks.stock_layers import DeepSpeedLayer, FairscaleLayer, counted_all_to_all
from nid_dist.benchmarks.textbook import evaluate_tokens
from nid_dist.evaluation.report import Column, Table
from nid_dist.parallel.launch.launching import Launch
from nid_dist.parallel.launch.local_processes import run_local
from nid_dist.parallel.process_group_world import ProcessGroupWorld
from nid_dist.parallel.world import JSON

TOKENS = Size(experts=4096, support=128, coordinates=1024, signals=16)
LAYERS = Size(experts=256, support=2, coordinates=256, signals=8)
OURS, WIDE, TEXTBOOK = "nid_dist", "nid_dist, d = h", "textbook"
DEEPSPEED, FAIRSCALE = "DeepSpeed MoE", "fairscale MOELayer"
DIFFERENCES = {
    OURS: "a part of the code to each owner, one merged head of d * (h + 1) numbers back per owner and signal",
    TEXTBOOK: "equal result; k copies of a coordinate's m numbers to the owners, k results of d numbers back",
    WIDE: "as nid_dist, with results of h numbers per coordinate, as the layers below have them",
    DEEPSPEED: (
        "h numbers of phi(x) per token and expert there, h back; softmax gate per token, the same for all signals and "
        "made even; experts Linear(h, h); nothing dropped"
    ),
    FAIRSCALE: "the same with capacity 2 T C / n; to and from messages by products with masks [T C, n, capacity]",
}
_COLUMNS = [
    Column("processes"),
    Column("n"),
    Column("k"),
    Column("C"),
    Column("T"),
    Column("way"),
    Column("sent", "kB/step", ".1f"),
    Column("time", "ms/step", ".1f"),
    Column("sent", "times nid_dist", ".1f"),
    Column("time", "times nid_dist", ".2f"),
    Column("dropped", "%", ".1f"),
    Column("what it is"),
]


@dataclass
class ExchangeForm:
    """One way to do a step."""

    step: Callable[[], torch.Tensor]  # forward and backward
    dropped: float = 0.0  # the share of tokens that are left out


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Measure with 2 and with 4 processes (`quick`: with 2 only).

    The figures `bytes_ratio_textbook` and so on are theirs / ours; with 4 processes they end in `_r4`.
    """
    tokens, layers, repeats = TOKENS, LAYERS, 15
    if quick:
        tokens = Size(experts=32, support=4, coordinates=64, signals=4, width=16)
        layers = Size(experts=8, support=2, coordinates=16, signals=4, width=16)
        repeats = 2
    figures: dict[str, Any] = {}
    rows: list[list[Any]] = []
    for processes in (2,) if quick else (2, 4):
        found: Any = run_local(measure, processes, tokens, layers, repeats)[0]
        for job, size in (("tokens", tokens), ("layers", layers)):
            ours = found[job][OURS]
            for name, way in found[job].items():
                ratios = [way[key] / ours[key] for key in ("bytes", "seconds")]
                place = [summary(processes), size.experts, size.support, size.coordinates, size.signals]
                cost = [way["bytes"] / 1e3, 1e3 * way["seconds"], *ratios, 100 * way["dropped"]]
                rows.append([*place, name, *cost, DIFFERENCES[name] if processes == 2 else "as above"])
        suffix = "" if processes == 2 else f"_r{processes}"
        figures |= {f"{name}{suffix}": value for name, value in _figures(found).items()}
    return figures, Table(_COLUMNS, rows)


def measure(launch: Launch, tokens: Size, layers: Size, repeats: int) -> JSON:
    """Both comparisons, in one of several processes: with textbook dispatch, and with the libraries' layers.

    Returns:
        `tokens` and `layers`: for each way its bytes, seconds and share of dropped tokens; and `error`, of textbook
        dispatch's f relative to the largest value.
    """
    with joined(launch) as world:
        case = ShardedCase(world, tokens)
        error = (case.step() - _textbook_step(case)).abs().max() / case.step().abs().max()
        ways = {OURS: ExchangeForm(case.step), TEXTBOOK: ExchangeForm(partial(_textbook_step, case))}
        compared = _compare(world, ways, repeats)
        return {
            "error": float(world.all_gather(error).max()),
            "tokens": compared,
            "layers": _compare(world, _layer_ways(world, layers), repeats),
        }


def _textbook_step(case: ShardedCase) -> torch.Tensor:
    return case.backward(evaluate_tokens(case.dictionary, case.code, case.coords))


def _layer_ways(world: ProcessGroupWorld, size: Size) -> dict[str, ExchangeForm]:
    case = ShardedCase(world, size)
    ways = {
        OURS: ExchangeForm(case.step),
        WIDE: ExchangeForm(ShardedCase(world, replace(size, channels=size.width)).step),
    }
    upstream = torch.randn(size.signals * size.coordinates, size.width, device=world.device)
    with torch.no_grad():
        features, tokens = case.dictionary.trunk(case.coords), _tokens(case)
    for name, kind in ((DEEPSPEED, DeepSpeedLayer), (FAIRSCALE, FairscaleLayer)):
        layer = kind(world, size.experts, features)
        with torch.no_grad():
            ways[name] = ExchangeForm(partial(_layer_step, case, layer, upstream), layer.dropped(tokens))
    return ways


def _tokens(case: ShardedCase) -> torch.Tensor:
    features: torch.Tensor = case.dictionary.trunk(case.coords)
    return features.expand(case.size.signals, *features.shape).flatten(0, 1)


def _layer_step(case: ShardedCase, layer: torch.nn.Module, upstream: torch.Tensor) -> torch.Tensor:
    case.clear()
    layer.zero_grad()
    results: torch.Tensor = layer(_tokens(case))
    results.backward(upstream)
    return results.detach()


def _compare(world: ProcessGroupWorld, ways: dict[str, ExchangeForm], repeats: int) -> dict[str, Any]:
    """Bytes and seconds of each way."""
    sent: dict[str, float] = {}
    for name, way in ways.items():
        with counted_all_to_all(world.size) as messages:
            way.step()
        sent[name] = float(sum(messages))
    seconds = together(world, {name: way.step for name, way in ways.items()}, repeats)
    return {name: {"bytes": sent[name], "seconds": seconds[name], "dropped": way.dropped} for name, way in ways.items()}


def _figures(found: dict[str, Any]) -> dict[str, float]:
    figures = {"relative_error_textbook": found["error"]}
    for label, job, one, other in (
        ("textbook", "tokens", TEXTBOOK, OURS),
        ("deepspeed_moe", "layers", DEEPSPEED, OURS),
        ("fairscale_moe", "layers", FAIRSCALE, OURS),
        ("deepspeed_moe_equal_widths", "layers", DEEPSPEED, WIDE),
        ("fairscale_moe_equal_widths", "layers", FAIRSCALE, WIDE),
    ):
        theirs, ours = found[job][one], found[job][other]
        figures[f"bytes_ratio_{label}"] = theirs["bytes"] / ours["bytes"]
        figures[f"time_ratio_{label}"] = theirs["seconds"] / ours["seconds"]
    for job in ("tokens", "layers"):
        figures |= {f"kb_nid_dist_{job}": found[job][OURS]["bytes"] / 1e3}
        figures |= {f"ms_nid_dist_{job}": 1e3 * found[job][OURS]["seconds"]}
    return figures
