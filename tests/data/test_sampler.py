import numpy as np
import pytest
import torch

from nid_dist.data.sampler import batch_ids, coordinate_subset, symmetries


@pytest.mark.parametrize(("batch", "size"), [(4, 12), (5, 12), (12, 12), (30, 12), (1, 1), (7, 1), (25, 12)])
def test_each_epoch_is_a_permutation(batch: int, size: int) -> None:
    steps = -(-3 * size // batch)
    stream = torch.cat([batch_ids(3, step, batch, size) for step in range(steps)])
    assert stream.dtype == torch.int64
    for epoch in range(3):
        assert sorted(stream[epoch * size : (epoch + 1) * size].tolist()) == list(range(size))


def test_the_stream_does_not_depend_on_the_batch() -> None:
    small = torch.cat([batch_ids(0, step, 3, 10) for step in range(20)])
    large = torch.cat([batch_ids(0, step, 20, 10) for step in range(3)])
    assert torch.equal(small, large)


def test_pure_in_any_order() -> None:
    forward = [batch_ids(1, step, 8, 20) for step in range(30)]
    for step in reversed(range(30)):
        assert torch.equal(batch_ids(1, step, 8, 20), forward[step])
    assert torch.equal(symmetries(1, 5, 9), symmetries(1, 5, 9))
    assert torch.equal(coordinate_subset(1, 5, 99, 9), coordinate_subset(1, 5, 99, 9))


def test_seeds_and_steps_and_epochs_differ() -> None:
    assert not torch.equal(batch_ids(0, 0, 50, 50), batch_ids(1, 0, 50, 50))
    assert not torch.equal(batch_ids(0, 0, 50, 50), batch_ids(0, 1, 50, 50))
    assert not torch.equal(symmetries(0, 0, 50), symmetries(0, 1, 50))
    assert not torch.equal(symmetries(0, 0, 50), symmetries(1, 0, 50))
    assert not torch.equal(coordinate_subset(0, 0, 500, 50), coordinate_subset(0, 1, 500, 50))


def test_symmetries_are_uniform() -> None:
    counts = np.bincount(torch.cat([symmetries(0, step, 64) for step in range(250)]).numpy(), minlength=8)
    assert len(counts) == 8
    # Chi squared with 7 degrees of freedom: 24.3 is its 99.9 % quantile.
    assert ((counts - 2000) ** 2 / 2000).sum() < 24.3


def test_coordinates_are_distinct_ascending_and_uniform() -> None:
    counts = np.zeros(40)
    for step in range(1000):
        drawn = coordinate_subset(7, step, 40, 10)
        assert (drawn.diff() > 0).all() and drawn.min() >= 0 and drawn.max() < 40
        counts[drawn.numpy()] += 1
    # Each count is hypergeometric, variance 1000 * 1/4 * 3/4 = 187.5: five standard deviations.
    assert np.abs(counts - 250).max() < 5 * 187.5**0.5


@pytest.mark.parametrize("count", [40, 41, 1000])
def test_all_coordinates_when_no_fewer_are_wanted(count: int) -> None:
    assert torch.equal(coordinate_subset(0, 0, 40, count), torch.arange(40))


def test_first_positions_of_epochs_are_uniform() -> None:
    counts = np.bincount([batch_ids(0, epoch, 6, 6)[0].item() for epoch in range(1200)], minlength=6)
    # Chi squared with 5 degrees of freedom: 20.5 is its 99.9 % quantile.
    assert ((counts - 200) ** 2 / 200).sum() < 20.5
