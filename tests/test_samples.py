"""Samples are complete: coordinates, values and weights, whatever was given, through every selection."""

from dataclasses import replace

import pytest
import torch

from nid_dist.samples import Batch, Samples

SHARED, OWN = torch.rand(5, 2), torch.rand(3, 5, 2)
VALUES, WEIGHTS = torch.rand(3, 5, 4, dtype=torch.float64), torch.rand(3, 5, dtype=torch.float64)


@pytest.mark.parametrize("coords", [SHARED, OWN])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_some_of_the_signals(coords: torch.Tensor, weights: torch.Tensor | None) -> None:
    samples = Samples(coords, VALUES, weights)
    assert len(samples) == 3 and samples.shared == (coords is SHARED) and samples.weighted == (weights is not None)
    assert torch.equal(samples.weights, torch.ones(3, 5, dtype=torch.float64) if weights is None else WEIGHTS)
    part = samples.rows(slice(1, 3))
    assert torch.equal(part.values, VALUES[1:]) and torch.equal(part.weights, samples.weights[1:])
    assert torch.equal(part.coords, SHARED if samples.shared else OWN[1:]) and part.weighted == samples.weighted
    moved = samples.to(torch.device("meta"))
    assert moved.device.type == moved.coords.device.type == moved.weights.device.type == "meta"
    assert moved.weighted == samples.weighted


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_some_of_the_coordinates(weights: torch.Tensor | None) -> None:
    part = Samples(SHARED, VALUES, weights).at(torch.tensor([4, 0]))
    assert torch.equal(part.coords, SHARED[[4, 0]]) and torch.equal(part.values, VALUES[:, [4, 0]])
    assert part.weighted == (weights is not None) and (weights is None or torch.equal(part.weights, WEIGHTS[:, [4, 0]]))


def test_ones_cost_no_memory_and_are_multiplied_by_where_in_doubt() -> None:
    samples = Samples(SHARED, VALUES)
    assert samples.weights.untyped_storage().nbytes() == 8
    assert replace(samples, values=2 * VALUES).weighted  # correct, if slower


def test_all_of_one_device() -> None:
    with pytest.raises(ValueError, match="samples on several devices: meta, cpu, cpu"):
        Samples(SHARED.to("meta"), VALUES)


def test_what_a_gate_sees_is_made_once_and_when_it_is_asked_for() -> None:
    made = []

    def make() -> torch.Tensor:
        made.append(1)
        return torch.zeros(3, 7, 1)

    samples, ids = Samples(SHARED, VALUES), torch.arange(3)
    batch = Batch(samples, ids, ids, make_gate_input=make)
    moved = batch.to(torch.device("meta"))
    assert not made and moved.ids.device.type == "meta" and moved.noise_seeds.device.type == "cpu"
    assert moved.gate_input.device.type == "meta" and moved.gate_input is moved.gate_input and len(made) == 1
    assert Batch(samples, ids, ids).gate_input is VALUES
