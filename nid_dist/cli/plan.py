"""`nid-plan`: what a run will need, on paper: memory, messages and time for every way to spread the experts."""

import argparse
import math
import shlex
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nid_dist.cli.entry import guarded
from nid_dist.cli.options import add_overrides
from nid_dist.coding.gates.cost import gate_cost
from nid_dist.config import Config, load_config
from nid_dist.errors import UserError
from nid_dist.evaluation.report import Cell, Column, Table
from nid_dist.files import expanded, write_json
from nid_dist.parallel.exchange.topology import Topology, default_expert_parallel_size
from nid_dist.parallel.launch.launching import Launch
from nid_dist.planning.card import Card, read_card
from nid_dist.planning.estimate import Estimate, Machine, Step, estimate, fastest, sensible_sizes
from nid_dist.planning.run import Run, buffers, rows
from nid_dist.progress import phase
from nid_dist.tasks.registry import make_task
from nid_dist.training.rehearsal import compare, rehearse

_MIB = 2**20
# Attained, not peak, by an A100 or better.
_TFLOPS = {"fp32": 15.0, "tf32": 60.0, "bf16": 150.0}
_GB = 80.0
_KINDS = ("codes", "coordinates", "sums", "atoms", "gradients", "parameters", "agreements")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="nid-plan", description="What a run will need, on paper.")
    parser.add_argument("--config", required=True, metavar="NAME|FILE", help="large/images_4096, ...; or a YAML file")
    parser.add_argument("--nodes", type=int, required=True, help="machines")
    parser.add_argument("--gpus-per-node", type=int, required=True, help="ranks on each")
    parser.add_argument(
        "--bandwidth", type=float, default=25.0, metavar="GB/s", help="from a rank to other nodes (default 25)"
    )
    parser.add_argument(
        "--node-bandwidth", type=float, default=300.0, metavar="GB/s", help="from a rank within its node (default 300)"
    )
    parser.add_argument("--latency", type=float, default=10.0, metavar="us", help="of a message (default 10)")
    parser.add_argument(
        "--flops", type=float, metavar="TFLOP/s", help="that a rank attains (default 15, with tf32 60, with bf16 150)"
    )
    parser.add_argument("--memory", type=float, metavar="GB", help="of a rank (default 80)")
    parser.add_argument(
        "--card", type=expanded, metavar="FILE", help="of nid-benchmark gpu --json: the rates of a rank, as measured"
    )
    parser.add_argument("--signals", type=int, help="number of training signals, for a codebook without its signals")
    parser.add_argument(
        "--rehearse", type=int, metavar="RANK", help="also take the real step of this rank, on tensors without values"
    )
    parser.add_argument("--json", type=expanded, metavar="FILE", help="where the figures go, in bytes and seconds")
    add_overrides(parser)
    return parser


def describe_run(config: Config, world: int, signals: int | None = None) -> Run:
    """What a configuration asks a number of ranks to compute; no model is made, however large it would be.

    `signals` is the number of training signals; None: counted, where a codebook needs it.

    Raises:
        UserError: when signals have to be counted or measured, and cannot be.
    """
    section, codebook = config.signals, config.coding.gate.kind == "codebook"
    grid: tuple[int, ...] | None = section.grid_shape
    if grid is None or (codebook and signals is None):
        try:
            task = make_task(config)
        except UserError as error:
            size = " and of which size" * (grid is None)
            hint = f"{error.hint}; or say how many training signals there are (--signals){size}"
            raise UserError(error.where, found=error.found, expected=error.expected, hint=hint) from error
        grid, signals = task.grid_shape, len(task.signals) if signals is None else signals
    points = math.prod(grid)
    if section.own_coordinates:
        points = config.training.coordinates or section.points
    gate = gate_cost(
        config,
        channels=section.channels,
        grid_shape=grid,
        gate_input=section.gate_input,
        signals=signals or 1,
        batch=rows(config, world),
    )
    return Run(
        config,
        section.channels,
        points,
        world,
        gate,
        len(grid),
        section.own_coordinates,
        buffers(config, section.channels, grid),
        grid,
        signals or 1,
    )


def plan(run: Run, machine: Machine) -> list[Estimate]:
    """Figures for every sensible R, and for the configured one: one estimate per R, in ascending order.

    Raises:
        UserError: when the configured R does not divide the ranks.
    """
    experts, configured = run.config.dictionary.experts, run.config.parallel.expert_parallel_size
    sizes = set(sensible_sizes(experts, run.world, machine.per_node))
    if configured is not None:
        sizes.add(Topology(experts, run.world, 0, configured).expert_parallel_size)
    return [estimate(run, machine, size) for size in sorted(sizes)]


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    _check_ranges(options)
    config = load_config(options.config, options.overrides)
    card = None if options.card is None else read_card(options.card, config.training.precision)
    options.flops = options.flops or (_TFLOPS[config.training.precision] if card is None else card.rate / 1e12)
    options.memory = options.memory or (_GB if card is None else card.memory / 1e9)
    machine = Machine(
        options.gpus_per_node,
        within=1e9 * options.node_bandwidth,
        between=1e9 * options.bandwidth,
        latency=1e-6 * options.latency,
        rate=1e12 * options.flops,
        memory=1e9 * options.memory,
        copies=math.inf if card is None else card.copies,
    )
    run = describe_run(config, options.nodes * options.gpus_per_node, options.signals)
    estimates = plan(run, machine)
    best = fastest(estimates, machine)
    default = default_expert_parallel_size(config.dictionary.experts, machine.per_node, run.world)
    used = config.parallel.expert_parallel_size or default
    why = _why(best, estimates, machine)
    print(_heading(run, options))
    print(f"\nMemory of a rank:\n{_memory_table(estimates, machine, used).text()}")
    for number, step in enumerate(estimates[0].steps):
        mode = f"{step.mode}, while it warms up" if step.is_warmup else step.mode
        print(f"\nA step of mode {mode} ({step.share:.3g} of the steps): what a rank sends, and how long it takes:")
        print(_step_table([(each.expert_parallel_size, each.steps[number]) for each in estimates]).text())
    print(f"\n{why}\n\n{_assumptions(options, card)}")
    figures = _as_json(options, run, estimates, best, used, why)
    if options.rehearse is not None:
        figures["rehearsed"] = _rehearse(run, options)
    if options.json is not None:
        write_json(options.json, figures)
        print(f"wrote {options.json}")
    print(f"next: {_next(options, best, used)}")
    return 0


def _rehearse(run: Run, options: argparse.Namespace) -> dict[str, Any]:
    """Show what one rank holds and sends when it takes its steps."""
    rank, size, local = options.rehearse, run.world, options.gpus_per_node
    with phase("rehearsal"):
        found = rehearse(run, Launch("torchrun" if size > 1 else "none", rank, size, rank % local, local))
    table, peak = compare(run, found), found.peak
    print(
        f"\nRank {rank} of {size} as configured (R = {found.expert_parallel_size}), rehearsed: parameters and buffers "
        f"{found.parameters / _MIB:,.1f} MiB, optimiser {found.optimizer / _MIB:,.1f} MiB, {peak / _MIB:,.1f} MiB at "
        "most. A step sends:"
    )
    print(table.text())
    differs = [f"{step} {what}" for step, what, planned, sent in table.rows if planned != sent]
    print("as planned, to the byte" if not differs else f"NOT as planned: {', '.join(differs)}")
    steps = [
        {"mode": each.mode, "is_warmup": each.is_warmup, "sent": each.sent, "peak": each.peak} for each in found.steps
    ]
    return {
        "rank": rank,
        "expert_parallel_size": found.expert_parallel_size,
        "parameters": found.parameters,
        "optimizer": found.optimizer,
        "peak": peak,
        "as_planned": not differs,
        "steps": steps,
    }


def _check_ranges(options: argparse.Namespace) -> None:
    for name in ("nodes", "gpus_per_node", "signals", "bandwidth", "node_bandwidth", "flops", "memory", "latency"):
        value = getattr(options, name)
        if value is None or (math.isfinite(value) and (value > 0 or (name == "latency" and value == 0))):
            continue
        expected = "0 or more" if name == "latency" else "a number above 0"
        where = f"--{name.replace('_', '-')}"
        raise UserError(where, found=str(value), expected=expected, hint="choose such a number")
    ranks = options.nodes * options.gpus_per_node
    if options.rehearse is not None and not 0 <= options.rehearse < ranks:
        expected = f"a rank from 0 to {ranks - 1}"
        raise UserError("--rehearse", found=str(options.rehearse), expected=expected, hint="choose such a number")


def _heading(run: Run, options: argparse.Namespace) -> str:
    config = run.config
    micro = config.training.batch // config.optimizer.accumulation
    idle = max(0, run.world - micro)
    return (
        f"{options.config}: {config.dictionary.experts} experts in total, {run.expert_parameters} parameters each; "
        f"trunk {run.trunk_parameters} parameters, gate {run.gate.parameters}\n"
        f"{options.nodes} node(s) x {options.gpus_per_node} = {run.world} rank(s), at most {run.signals} of a "
        f"micro-batch's {micro} signals on each" + (f"; {idle} rank(s) have none: raise training.batch" * bool(idle))
    )


def _memory_table(estimates: list[Estimate], machine: Machine, used: int) -> Table:
    parts = ("parameters", "gradients", "optimizer", "activations", "total")
    columns = [Column("R"), Column("experts per rank"), *(Column(name, "MiB", ",.1f") for name in parts), Column("")]
    table: list[list[Cell]] = []
    for each in estimates:
        notes = [
            "as configured" * (each.expert_parallel_size == used),
            "does not fit" * (not machine.fits(each.memory)),
        ]
        sizes = [getattr(each.memory, name) / _MIB for name in parts]
        table.append([each.expert_parallel_size, each.experts, *sizes, ", ".join(filter(None, notes))])
    return Table(columns, table)


def _step_table(steps: list[tuple[int, Step]]) -> Table:
    kinds = [kind for kind in _KINDS if any(kind in step.sent for _, step in steps)]
    columns = [Column("R"), *(Column(kind, "MiB", ",.2f") for kind in kinds)]
    columns += [Column("within node", "MiB", ",.2f"), Column("between nodes", "MiB", ",.2f")]
    columns += [Column(name, "ms", ",.3f") for name in ("compute", "messages", "step")]
    table: list[list[Cell]] = []
    for size, step in steps:
        sent = [sum(step.sent.get(kind, (0, 0))) / _MIB for kind in kinds]
        links = [sum(parts) / _MIB for parts in zip((0, 0), *step.sent.values(), strict=True)]
        table.append([size, *sent, *links, *(1e3 * s for s in (step.compute, step.messages, step.seconds))])
    return Table(columns, table)


def _why(best: Estimate | None, estimates: list[Estimate], machine: Machine) -> str:
    room = f"{machine.memory / 1e9:g} GB"
    if best is None:
        least = min(estimates, key=lambda each: each.memory.total)
        needed = f"{least.memory.total / 1e9:,.1f} GB with R = {least.expert_parallel_size}"
        return f"No R fits in {room}: a rank needs {needed}, and more with any other."
    size, others = best.expert_parallel_size, [each for each in estimates if each is not best]
    kept = (
        "all on every rank" if size == 1 else "spread over a node" if size <= machine.per_node else "spread over nodes"
    )
    compared = "; there is no other"
    if others:
        second = min(others, key=lambda each: each.seconds)
        fits = "" if machine.fits(second.memory) else " but does not fit"
        compared = f" (R = {second.expert_parallel_size} takes {1e3 * second.seconds:,.3f} ms{fits})"
    return (
        f"R = {size}, experts {kept}: the fastest that fits in {room}, {1e3 * best.seconds:,.3f} ms a step on average "
        f"over the phases{compared}."
    )


def _assumptions(options: argparse.Namespace, card: Card | None) -> str:
    measured = "" if card is None else f"as of {card.name} in {options.card} unless told otherwise: "
    update = "update of parameters" if card is None else "update but at the rate at which the card copies"
    rank = (
        f"{measured}{options.flops:.4g} TFLOP/s (--flops), {options.memory:.4g} GB (--memory), "
        f"{options.node_bandwidth:g} GB/s in its node (--node-bandwidth), {options.bandwidth:g} GB/s to other nodes "
        f"(--bandwidth), {options.latency:g} us per message (--latency)"
    )
    return textwrap.fill(
        f"Assumed of a rank: {rank}. Exact: parameters, gradients, the optimiser's state; bytes of codes, coordinates, "
        "sums and atoms, in fp32, except rows that a solver fetches. Models: gradients sent (a ring), activations, and "
        f"time, which counts matrix products and messages one after the other, but no {update}, no reading "
        "and no start of kernels: it compares ways to spread experts, and is no promise.",
        110,
    )


def _next(options: argparse.Namespace, best: Estimate | None, used: int) -> str:
    if best is None:
        return (
            "plan again with more ranks, parallel.zero_stage=1 (the optimiser's state is spread over replicas), a "
            "smaller training.batch, or a smaller gate (every rank holds all of it)"
        )
    size, given = best.expert_parallel_size, list(options.overrides)
    if size != used:
        given.append(f"parallel.expert_parallel_size={size}")
    train = ["--config", str(options.config), *(["--set", *given] if given else [])]
    if options.nodes * options.gpus_per_node == 1:
        return shlex.join(["nid-train", *train, "--single-process"])
    many = ["--nnodes", str(options.nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint", "FIRST_NODE:29500"]
    where = ["--standalone"] if options.nodes == 1 else many
    start = ["torchrun", *where, "--nproc-per-node", str(options.gpus_per_node), "-m", "nid_dist.cli.train", *train]
    return shlex.join(start) + ("" if options.nodes == 1 else "   (on every node)")


def _as_json(
    options: argparse.Namespace, run: Run, estimates: list[Estimate], best: Estimate | None, used: int, why: str
) -> dict[str, Any]:
    names = ("nodes", "gpus_per_node", "bandwidth", "node_bandwidth", "latency", "flops", "memory")
    plans = []
    for each in estimates:
        figures = asdict(each) | {"seconds": each.seconds}
        figures["memory"]["total"] = each.memory.total
        for shown, step in zip(figures["steps"], each.steps, strict=True):
            shown["seconds"] = step.seconds
            shown["sent"] = {kind: {"within": near, "between": far} for kind, (near, far) in step.sent.items()}
        plans.append(figures)
    return {
        "config": options.config,
        "overrides": options.overrides,
        "assumed": {name: getattr(options, name) for name in names},
        "parameters": {"trunk": run.trunk_parameters, "expert": run.expert_parameters, "gate": run.gate.parameters},
        "signals_per_rank": run.signals,
        "plans": plans,
        "configured": used,
        "chosen": None if best is None else best.expert_parallel_size,
        "why": why,
    }


main = guarded("nid-plan", command)

if __name__ == "__main__":
    sys.exit(main())
