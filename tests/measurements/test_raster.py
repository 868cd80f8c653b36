import torch

from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.measurements.raster import Raster, spread


def test_centres_and_halfway_by_hand() -> None:
    image = torch.tensor([[0.0, 1.0], [2.0, 3.0]])[..., None]
    raster = Raster(image)
    assert torch.equal(raster(coordinate_grid((2, 2)))[:, 0], torch.tensor([0.0, 1.0, 2.0, 3.0]))
    middle = torch.tensor([[0.0, 0.0], [0.0, -0.5], [-1.0, 0.5], [5.0, 0.0]])
    # The middle of four; halfway between two; at the border half of the pixel; far away nothing.
    assert torch.allclose(raster(middle)[:, 0], torch.tensor([1.5, 1.0, 0.5, 0.0]))


def test_spread_is_the_adjoint() -> None:
    image, coords, values = torch.randn(5, 7, 2), 2.4 * torch.rand(50, 2) - 1.2, torch.randn(50, 2)
    back = torch.zeros(5, 7, 2)
    spread(back, coords, values)
    assert torch.allclose((Raster(image)(coords) * values).sum(), (image * back).sum(), rtol=1e-5)
