"""Trend and detail together against one dense least-squares problem; the choice of weights against its formula."""

import pytest
import torch

from nid_dist.coding.solvers.trend import Independent, generalized_cross_validation, solve_trend_and_detail
from nid_dist.detail.sparse import SampledSplines
from nid_dist.detail.splines import levels

GRIDS = tuple(levels((2, 2), 3))


@pytest.fixture
def case() -> tuple[torch.Tensor, SampledSplines, Independent, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    coords = torch.rand(60, 2, dtype=torch.float64, generator=generator) * 2 - 1
    splines = SampledSplines(GRIDS, coords)
    precision = torch.cat([torch.full((grid.size,), 4.0**level) for level, grid in enumerate(GRIDS)]).double()
    trend = torch.randn(60, 4, dtype=torch.float64, generator=generator)
    measured = torch.randn(3, 60, dtype=torch.float64, generator=generator)
    weights = torch.rand(3, 60, dtype=torch.float64, generator=generator) * 5
    weights[:, :10] = 0
    return trend, splines, Independent(precision), measured, weights


def dense(trend, splines, precision, weights, rho, measured):  # type: ignore[no-untyped-def]
    """z and c of one signal, and what is fitted."""
    matrix = torch.cat([trend, splines(torch.eye(splines.shape[1]).double()).t()], 1)
    prior = torch.cat([torch.full((trend.shape[1],), rho).double(), precision])
    system = matrix.t() @ (weights[:, None] * matrix) + prior.diag()
    found = torch.linalg.solve(system, matrix.t() @ (weights * measured))
    return found[: trend.shape[1]], found[trend.shape[1] :], matrix @ found


def test_it_is_the_dense_solution(case) -> None:  # type: ignore[no-untyped-def]
    trend, splines, roughness, measured, weights = case
    found = solve_trend_and_detail(
        trend, splines, roughness, measured, weights, rho=0.7, tolerance=1e-10, iterations=500
    )
    for place in range(3):
        z, c, fitted = dense(trend, splines, roughness.diagonal, weights[place], 0.7, measured[place])
        assert torch.allclose(found.trend[place], z, atol=1e-7)
        assert torch.allclose(found.detail[place], c, atol=1e-7)
        assert torch.allclose(found.fitted[place], fitted, atol=1e-7)
    assert found.iterations < 500 and bool((found.residual <= 1e-9).all())
    again = solve_trend_and_detail(trend, splines, roughness, measured, weights, rho=0.7, start=found.detail)
    assert again.iterations == 5 and torch.allclose(again.detail, found.detail, atol=1e-6)


def test_either_part_may_be_left_out(case) -> None:  # type: ignore[no-untyped-def]
    trend, splines, roughness, measured, weights = case
    alone = solve_trend_and_detail(trend[:, :0], splines, roughness, measured, weights, tolerance=1e-9)
    without = solve_trend_and_detail(trend, splines, roughness, measured, weights, rho=float("inf"), tolerance=1e-9)
    assert not without.trend.any() and torch.allclose(alone.detail, without.detail, atol=1e-7)
    stiff = Independent(roughness.diagonal * 1e12)
    only = solve_trend_and_detail(trend, splines, stiff, measured, weights)
    expected = torch.linalg.solve(
        torch.einsum("nq,tn,np->tqp", trend, weights, trend) + torch.eye(4).double(), (weights * measured) @ trend
    )
    assert torch.allclose(only.trend, expected, atol=1e-5) and float(only.detail.abs().max()) < 1e-6


def test_the_score_is_the_dense_one(case) -> None:  # type: ignore[no-untyped-def]
    trend, splines, roughness, measured, weights = case
    rho = torch.tensor([0.1, 1.0, float("inf")]).double()
    diagonal = roughness.diagonal * torch.tensor([0.1, 3.0, 1.0]).double()[:, None]
    score, found = generalized_cross_validation(
        trend, splines, Independent(diagonal), measured[0], weights[0], rho, probes=400, tolerance=1e-9, iterations=500
    )
    root = weights[0].sqrt()
    for place in range(3):
        one = 1e12 if torch.isinf(rho[place]) else float(rho[place])
        hat = torch.stack(
            [dense(trend, splines, diagonal[place], weights[0], one, e)[2] for e in torch.eye(60).double()], 1
        )
        fitted = hat @ measured[0]
        left = (root * (measured[0] - fitted)).square().sum()
        expected = 50 * left / (50 - hat.diagonal()[weights[0] > 0].sum()) ** 2
        assert torch.allclose(found.fitted[place], fitted, atol=1e-5)
        assert abs(float(score[place] / expected) - 1) < 0.1


@pytest.mark.parametrize("kind", ["nothing", "constant", "contradiction", "one spot", "unknown"])
def test_degenerate_measurements_give_something_finite(case, kind: str) -> None:  # type: ignore[no-untyped-def]
    trend, splines, roughness, measured, weights = case
    if kind == "nothing":
        measured = torch.zeros_like(measured)
    if kind == "constant":
        measured, roughness = torch.ones_like(measured), Independent(torch.zeros_like(roughness.diagonal))
    if kind in ("contradiction", "one spot"):
        coords = torch.zeros(60, 2).double()
        splines, trend = SampledSplines(GRIDS, coords), trend[:1].expand(60, -1)
    if kind == "unknown":
        weights = torch.zeros_like(weights)
    found = solve_trend_and_detail(trend, splines, roughness, measured, weights, iterations=200)
    assert bool(found.fitted.isfinite().all()) and found.iterations <= 200
    if kind == "nothing":
        assert not found.fitted.any()
    if kind == "one spot":
        mean = (weights * measured).sum(1) / weights.sum(1)
        assert bool(((found.fitted[:, 0] - mean).abs() < 0.1 * (1 + mean.abs())).all())
