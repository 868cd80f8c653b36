import math

import numpy as np
import pytest
import torch
from torch import Tensor

from nid_dist.benchmarks.ct import adjoint_error
from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.config.schema import Encoding
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.radon import Radon, nodes_for
from nid_dist.measurements.sampling import Measurement
from nid_dist.tasks.ct.phantoms import named_phantom
from tests.tiny_ct import phantom_values

BEAMS = pytest.mark.parametrize("source", [None, 2.5], ids=["parallel", "fan"])


@BEAMS
def test_the_constant_and_a_wave_in_closed_form(source: float | None) -> None:
    """The disc's chords, and the integral of cos(a x) over them: 2 cos(a s cos t) sin(a l sin t) / (a sin t)."""
    geometry = Geometry.even(6, 9, source)
    radon, a = Radon(geometry, 32), 11.0
    found = radon(lambda x: torch.stack([torch.ones(len(x)), (a * x[:, 1]).cos()], 1))
    angles, offsets = geometry.lines
    half = (1 - offsets.square()).clamp_min(0).sqrt()
    across = a * angles.sin()
    wave = 2 * (a * offsets * angles.cos()).cos() * half * torch.sinc(across * half / math.pi)
    assert isinstance(radon, Measurement)
    assert torch.allclose(found[:, 0].double(), 2 * half, atol=1e-6)
    assert torch.allclose(found[:, 1].double(), wave, atol=2e-5)


@BEAMS
def test_against_the_exact_transform_of_ellipses(source: float | None) -> None:
    """At borders f jumps: the error falls with the distance of nodes, to a thousandth of the integrals."""
    phantom, geometry = named_phantom("phantom-00000", 0), Geometry.even(4, 15, source)

    def field(x: Tensor) -> Tensor:
        return torch.from_numpy(phantom_values(phantom, x.double().numpy()))[:, None].float()

    exact = torch.from_numpy(phantom.integrals(geometry)).float()
    errors = [(Radon(geometry, nodes)(field)[:, 0] - exact).abs().mean() for nodes in (100, 1600)]
    assert errors[1] < 0.2 * errors[0] and errors[1] < 1e-3 * exact.max()


def test_rows_point_down_and_columns_right() -> None:
    """A spot at the upper right is seen at offset cos t + sin t times its distance from the axis."""
    spot = torch.tensor([-0.3, 0.4])
    geometry = Geometry(np.deg2rad([0.0, 90.0]), 101)
    values = Radon(geometry, 400)(lambda x: torch.exp(-(x - spot).square().sum(1, keepdim=True) / (2 * 0.05**2)))
    peaks = geometry.positions[values.reshape(2, 101).argmax(1).numpy()]
    assert peaks == pytest.approx([0.4, 0.3], abs=0.011)


def test_lines_beside_the_disc_are_zero() -> None:
    found = Radon(Geometry(np.zeros(1), 4, 8.0), 16)(lambda x: torch.ones(len(x), 1))
    assert found[:, 0].tolist() == pytest.approx([0, 0, 0, 0])


def test_linear_and_in_chunks_of_any_size() -> None:
    radon = Radon(Geometry.even(3, 7), 24)
    waves = torch.randn(2, 5)

    def field(x: Tensor) -> Tensor:
        return (x @ waves).sin()

    whole = radon(field)
    assert torch.allclose(radon(lambda x: 2 * field(x) - 3), 2 * whole - 3 * radon(lambda x: torch.ones(len(x), 5)))
    for rows in (1, 50, 10**6):
        parts = list(radon.chunks(field, rows))
        assert torch.allclose(torch.cat([part for _, part in parts]), whole, atol=1e-6)
        assert [(part.start, part.stop) for part, _ in parts][-1][1] == radon.size


def test_differentiable() -> None:
    radon, weight = Radon(Geometry.even(3, 5), 16), torch.randn(2, 4, dtype=torch.float32, requires_grad=True)
    target = torch.randn(radon.size, 4)
    (radon(lambda x: (x @ weight).sin()) * target).sum().backward()
    assert weight.grad is not None
    step = torch.zeros_like(weight)
    step[1, 2] = 1e-2
    with torch.no_grad():
        ahead, back = ((radon(lambda x, w=w: (x @ w).sin()) * target).sum() for w in (weight + step, weight - step))
    assert float((ahead - back) / 2e-2) == pytest.approx(float(weight.grad[1, 2]), rel=2e-3)


@BEAMS
def test_adjoint(source: float | None) -> None:
    radon = Radon(Geometry.even(5, 12, source), 20)
    image, measured = torch.randn(9, 11, 2), torch.randn(radon.size, 2)
    forward, backward = radon.of_image(image), radon.adjoint(measured, (9, 11))
    error = ((forward * measured).sum() - (image * backward).sum()).abs() / (forward.norm() * measured.norm())
    assert float(error) < 1e-5


def test_the_adjoint_s_error_at_the_benchmark_s_size() -> None:
    assert adjoint_error(33, 6) < 1e-5


def test_the_adjoint_in_the_space_of_features() -> None:
    """What a gradient gives: Phi^T R^T g, with Phi made column by column."""
    trunk = Dictionary(
        DictionaryConfig(experts=4, width=6, encoding=Encoding(kind="fourier", features=5, scale=3)), 2, 1,
        torch.Generator().manual_seed(0),
    ).trunk  # fmt: skip
    radon, head = Radon(Geometry.even(4, 6), 24), torch.randn(6, requires_grad=True)
    measured = torch.randn(radon.size)
    (radon(lambda x: (trunk(x).detach() @ head)[:, None])[:, 0] * measured).sum().backward()
    columns = [radon(lambda x, j=j: trunk(x).detach()[:, j : j + 1])[:, 0] for j in range(6)]
    assert head.grad is not None
    assert torch.allclose(head.grad, torch.stack(columns) @ measured, atol=1e-5)


def test_nodes_resolve_the_finest_wave_of_a_lattice() -> None:
    """One period per two pixels, along the middle line, where the chord is longest."""
    side = 64
    wave = math.pi * side / 2
    radon = Radon(Geometry(np.array([math.pi / 2]), 1), nodes_for(side))
    found = radon(lambda x: (wave * x[:, 1:].double() + 0.7).cos())
    assert float(found) == pytest.approx(2 * math.cos(0.7) * math.sin(wave) / wave, abs=1e-4)
