import pytest
import torch

from nid_dist.measurements.sampling import Measurement, Sampling


@pytest.mark.parametrize(("rows", "expected"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7])])
def test_chunks_cover_all_coordinates_in_order(rows, expected):
    coords = torch.rand(7, 2)
    measurement = Sampling(coords)
    seen = list(measurement.chunks(lambda x: torch.stack([x[:, 0] * 2, x[:, 1], x.sum(1)], 1), rows))
    assert measurement.size == 7
    assert [len(values) for _, values in seen] == expected
    for part, values in seen:
        assert torch.equal(values[:, 0], 2 * coords[part, 0])
    assert torch.equal(torch.cat([values for _, values in seen])[:, 1], coords[:, 1])


def test_it_is_a_measurement():
    assert isinstance(Sampling(torch.zeros(1, 2)), Measurement)
