"""One rank of a world that is not there: what it sends is what is planned, and shapes alone tell what tensors would."""

import dataclasses

import pytest

from nid_dist.cli.plan import describe_run
from nid_dist.config import Config, load_config
from nid_dist.errors import UserError
from nid_dist.parallel.launch.launching import Launch
from nid_dist.training.rehearsal import Rehearsed, compare, rehearse

RANKS, NODE = 16, 8
SIZES = ["dictionary={experts: 64, width: 8, encoding: {kind: cosine, features: 7}}", "coding.support=4"]
SIZES += ["training.batch=64", "signals.patch=8", "signals.size=null"]

ALL_MODES = ["coding.gate.kind=light", "coding.phases=[{mode: gate}, {mode: solve}, {mode: distill}]"]
NOISY = ["coding.gate={kind: light, noisy: true}", "coding.warmup_steps=9", "coding.phases=[{mode: gate}]"]


def configuration(*overrides: str) -> Config:
    return load_config("quickstart", [*SIZES, *overrides])


def rehearsed(config: Config, rank: int = 5, *, fake: bool = True) -> Rehearsed:
    run = describe_run(config, RANKS, 50)
    return rehearse(run, Launch("torchrun", rank, RANKS, rank % NODE, NODE), fake=fake)


@pytest.mark.parametrize(
    ("engine", "overrides"),
    [
        pytest.param("engine=fairscale", ALL_MODES, id="all modes"),
        pytest.param("engine=deepspeed", [*NOISY, "optimizer.accumulation=2"], id="noisy"),
        pytest.param("engine=deepspeed", ["coding.gate.kind=unrolled", "coding.phases=[{mode: gate}]"], id="unrolled"),
        pytest.param("zero_stage=1", ["parallel.expert_parallel_size=2"], id="replicas"),
        pytest.param("zero_stage=1", ["dictionary.private_layers=2", "dictionary.private_width=4"], id="deep"),
    ],
)
def test_a_step_sends_what_is_planned(engine: str, overrides: list[str]) -> None:
    config = configuration(f"parallel.{engine}", *overrides)
    run = describe_run(config, RANKS, 50)
    found = rehearsed(config)
    rows = compare(run, found).rows
    assert {row[1] for row in rows} >= {"codes", "sums", "gradients", "agreements"}
    assert [row[2] for row in rows] == [row[3] for row in rows], rows
    # Nothing is left out: all that went through a process group is of some kind.
    for step in found.steps:
        assert sum(m.bytes * times for m, times in step.messages.items()) == sum(step.sent.values())


def test_shapes_tell_what_tensors_would() -> None:
    config = configuration("parallel.zero_stage=1", "coding.gate.kind=light")
    fake, real = rehearsed(config), rehearsed(config, fake=False)
    assert dataclasses.replace(fake, steps=[]) == dataclasses.replace(real, steps=[])
    for one, other in zip(fake.steps, real.steps, strict=True):
        assert (one.sent, one.peak) == (other.sent, other.peak)


def test_parameters_are_those_of_the_model() -> None:
    config = configuration("parallel.engine=fairscale", "coding.gate.kind=light")
    # 8 experts of 3 * 9 numbers, a trunk of 7 to 8; what the gate has, and what is no parameter, as planned.
    run = describe_run(config, RANKS, 50)
    assert rehearsed(config).parameters == 4 * (8 * 27 + 64 + run.gate.parameters + run.gate.buffers + run.buffers)


def test_more_sharing_than_ranks_is_refused() -> None:
    config = configuration("parallel.expert_parallel_size=32")
    with pytest.raises(UserError, match="expected at most 16"):
        rehearsed(config)
