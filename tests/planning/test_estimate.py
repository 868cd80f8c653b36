"""Memory and time on paper: one case by hand, what must grow or shrink, and sizes that no machine here has."""

import dataclasses

import pytest

from nid_dist.coding.gates.cost import GateCost, gate_cost
from nid_dist.planning.estimate import Machine, estimate, fastest, kinds_of_steps, peers_in_node, sensible_sizes
from nid_dist.planning.run import Run
from nid_dist.planning.workload import step_flops
from tests.planning.configurations import configuration

MACHINE = Machine(per_node=2, within=4e6, between=1e6, latency=1e-3, rate=1e6, memory=1e9)
D, C = 3, 16
GATE = {"coding.phases": [{"mode": "gate"}]}


def test_a_step_by_hand() -> None:
    run = Run(configuration({"training.batch": 12, "dictionary.experts": 12} | GATE), D, C, 4, GateCost(parameters=100))
    (step,) = estimate(run, MACHINE, 4).steps
    # To each of 3 peers, one of them in the same node: 3 signals' 3 indices, 3 values and their gradients; 3 rows of 18
    # numbers and their gradients. Gradients of 100 + 35 numbers of gate and trunk go around all 4 ranks, each of which
    # passes on 2 * 3/4 of them; nobody else holds the same experts.
    # They agree on the use of 12 experts and on a norm, in doubles.
    agreed = 2 * 3 * 8 * 12 // 4 + 2 * 3 * 8 // 4
    assert step.sent == {"codes": (108, 216), "sums": (432, 864), "gradients": (0, 810), "agreements": (0, agreed)}
    # 3 messages of codes, 2 of sums, 4 times a tree of 2 rounds up and 2 down: use, norm, gradients of trunk and gate.
    bytes_within, bytes_between = 540, 1080 + 810 + agreed
    assert step.messages == pytest.approx((3 + 2 + 16) * 1e-3 + bytes_within / 4e6 + bytes_between / 1e6)
    assert step.compute == step_flops(run, 4, "gate") / 1e6
    alone = estimate(run, MACHINE, 1).steps[0]
    # All 4 hold all 12 experts of 18 numbers.
    assert alone.sent == {"gradients": (0, 810 + 2 * 3 * 4 * 12 * 18 // 4), "agreements": (0, agreed)}
    one_node = estimate(run, dataclasses.replace(MACHINE, per_node=4), 4).steps[0]
    assert [far for _, far in one_node.sent.values()] == [0, 0, 0, 0]


def test_memory_by_hand() -> None:
    gate = GateCost(parameters=100, buffers=7, largest=90)

    def of(**parallel: object) -> tuple[int, int, int]:
        changes = GATE | {"dictionary.experts": 12} | {f"parallel.{key}": value for key, value in parallel.items()}
        found = estimate(Run(configuration(changes), D, C, 4, gate), MACHINE, 2).memory
        assert found.total == found.parameters + found.gradients + found.optimizer + found.activations
        return found.parameters, found.gradients, found.optimizer

    # 6 experts of 18 numbers, a trunk of 35 and a gate of 100.
    assert of() == (4 * (108 + 35 + 107), 4 * 243, 8 * 243)
    # ZeRO-1: each of 2 replicas has half of the experts' state, each of 4 ranks a quarter of the rest, with a copy.
    assert of(zero_stage=1) == (4 * 250, 4 * 243, 12 * (54 + 34))
    # OSS does not cut the experts' one tensor, nor the gate's largest.
    assert of(engine="fairscale") == (4 * 250, 4 * 243, 8 * (108 + 90))


def test_gradients_are_those_of_what_learns() -> None:
    gate = GateCost(parameters=1000)
    changes = {"coding.phases": [{"mode": "solve"}, {"mode": "distill"}], "coding.gate.kind": "unrolled"}
    run = Run(configuration(changes), D, C, 1, gate)
    assert estimate(run, MACHINE, 1).memory.gradients == 4 * 1000  # of the gate, and before of 8 * 18 + 35
    light = Run(configuration(changes | {"coding.gate.kind": "light"}), D, C, 1, gate)
    assert estimate(light, MACHINE, 1).memory.gradients == 4 * (1000 + 8 * 18 + 35)


def test_more_ranks_hold_less_each() -> None:
    run = Run(configuration({"dictionary.experts": 4096}), D, C, 16)
    found = [estimate(run, MACHINE, size).memory for size in (1, 2, 4, 8, 16)]
    for name in ("parameters", "gradients", "optimizer"):
        sizes = [getattr(memory, name) for memory in found]
        assert sizes == sorted(set(sizes), reverse=True), name


@pytest.mark.parametrize(("name", "faster"), [("within", 2), ("between", 2), ("rate", 2), ("latency", 0.5)])
def test_a_better_machine_is_faster(name: str, faster: float) -> None:
    run = Run(configuration({"dictionary.experts": 4096}), D, C, 8)
    better = dataclasses.replace(MACHINE, **{name: faster * getattr(MACHINE, name)})
    assert estimate(run, better, 4).seconds < estimate(run, MACHINE, 4).seconds


def test_the_fastest_that_fits_is_chosen() -> None:
    run = Run(configuration({"dictionary.experts": 4096}), D, C, 8)
    found = [estimate(run, MACHINE, size) for size in sensible_sizes(4096, 8, 2)]
    best = fastest(found, MACHINE)
    assert best is not None and best.seconds == min(each.seconds for each in found)
    tight = dataclasses.replace(MACHINE, memory=float(min(each.memory.total for each in found)))
    least = fastest(found, tight)
    assert least is not None and least.memory.total == tight.memory
    assert fastest(found, dataclasses.replace(MACHINE, memory=1.0)) is None


def test_kinds_of_steps() -> None:
    phases = [{"mode": "gate"}, {"mode": "solve", "share": 2}, {"mode": "gate"}]
    config = configuration({"coding.phases": phases, "coding.warmup_steps": 100, "training.steps": 400})
    assert kinds_of_steps(config) == [("gate", True, 0.25), ("gate", False, 0.25), ("solve", False, 0.5)]
    always = configuration(GATE | {"coding.warmup_steps": 500, "training.steps": 400})
    assert kinds_of_steps(always) == [("gate", True, 1.0), ("gate", False, 0.0)]
    assert kinds_of_steps(configuration({"coding.warmup_steps": 9, "coding.phases": [{"mode": "solve"}]})) == [
        ("solve", False, 1.0)
    ]


def test_groups_and_nodes() -> None:
    assert list(sensible_sizes(1024, 32, 8)) == [1, 2, 4, 8, 16, 32]
    assert list(sensible_sizes(1024, 12, 6)) == [1, 2]  # 4 would lie across nodes
    assert list(sensible_sizes(36, 12, 4)) == [1, 2, 4, 12]  # 6 and 3, too
    assert peers_in_node(4, 16, 8) == 3
    assert peers_in_node(16, 32, 8) == 7
    assert peers_in_node(4, 12, 6) == 1  # ranks 4 to 7 are in two nodes
    assert peers_in_node(1, 4, 2) == 0


def test_a_million_experts_on_a_thousand_ranks() -> None:
    config = configuration({"dictionary.experts": 10**6, "dictionary.width": 256, "training.batch": 4096})
    gate = gate_cost(config, channels=3, grid_shape=(16, 16), signals=1, batch=4)
    run = Run(config, 3, 256, 1024, gate)
    machine = Machine(per_node=8, within=3e11, between=2.5e10, latency=1e-5, rate=1.5e13, memory=8e10)
    found = [estimate(run, machine, size) for size in sensible_sizes(10**6, 1024, 8)]
    assert [each.expert_parallel_size for each in found] == [1, 2, 4, 8, 16, 32, 64]
    assert found[-1].experts == 15625 and fastest(found, machine) is not None
