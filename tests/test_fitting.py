"""Fitting by name: each method gives what its definition says, in the order of their quality."""

import numpy as np
import pytest
import torch

from nid_dist import fitting
from nid_dist.coding.method import METHODS, Method
from nid_dist.coding.prior import learn_prior
from nid_dist.config import load_config
from nid_dist.errors import UserError
from nid_dist.fitting import fit_signals
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model

N, K, SIDE = 24, 4, 6
ALL = [Method("init"), Method("adam", 5), Method("ridge"), Method("omp"), Method("omp", 2)]
MORE = [Method("fista"), Method("irls"), Method("irls", 4, loss="huber"), Method("map", 4)]


def made(*overrides: str) -> tuple[Model, torch.Tensor]:
    sizes = [f"dictionary.experts={N}", "dictionary.width=12", f"coding.support={K}", "signals.patch=6"]
    sizes += ["coding.gate={kind: light, width: 4}", "dictionary.encoding={kind: fourier, features: 8, scale: 3}"]
    model = Model(load_config(None, [*sizes, *overrides]), channels=2, grid_shape=(SIDE, SIDE), signals=7)
    model = model.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    alpha = torch.randn(7, N, generator=generator) * (torch.rand(7, N, generator=generator) < 0.2)
    atoms = model.dictionary.atoms(model.coords)
    values = torch.einsum("tn,ncd->tcd", alpha, atoms) + 0.05 * torch.randn(7, SIDE * SIDE, 2, generator=generator)
    return model, values


@pytest.mark.parametrize("name", ["", "OMP", "sgd"])
def test_unknown_methods_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"the method: found '.*', expected one of init, adam, ridge, omp"):
        Method(name)


def test_labels() -> None:
    assert [method.label for method in ALL] == ["init", "adam5", "ridge", "omp", "omp2"]
    assert [name for name in METHODS if Method(name).needs_gate] == ["init", "adam", "ridge"]


def test_residuals_are_the_errors_of_f_and_improve_in_order() -> None:
    model, values = made()
    fits = fit_signals(model, Sampling(model.coords), values, ALL)
    assert list(fits) == [method.label for method in ALL]
    error = {}
    for label, fit in fits.items():
        code = fit.code
        assert code.indices is not None and code.indices.shape == (7, K) and fit.seconds > 0
        assert all(len(set(row)) == K for row in code.indices.tolist())
        atoms = model.dictionary.atoms(model.coords)
        f = torch.einsum("tn,ncd->tcd", code.dense(N), atoms) + code.bias[:, None]
        error[label] = (f - values).square().mean((1, 2))
        torch.testing.assert_close(fit.residual, error[label], rtol=1e-4, atol=1e-6)
    assert (error["ridge"] <= error["adam5"] + 1e-6).all() and (error["ridge"] <= error["init"] + 1e-6).all()
    assert error["omp"].mean() < error["ridge"].mean()


def with_prior(model: Model) -> Model:
    """Heads vary by 1 in all directions: a prior that hardly matters."""
    assert model.stored_prior is not None
    size = len(model.stored_prior.mean)
    each = size**0.5 * torch.eye(size).double()
    model.stored_prior.set(learn_prior(torch.cat([each, -each]), 4))
    return model


def test_solvers_of_other_losses_and_priors_are_about_as_good() -> None:
    model, values = made()
    fits = fit_signals(with_prior(model), Sampling(model.coords), values, [Method("omp"), *MORE])
    assert list(fits) == ["omp", "fista", "irls", "irls4", "map4"]
    atoms, best = model.dictionary.atoms(model.coords), fits["omp"].residual.mean()
    for label, fit in fits.items():
        code = fit.code
        assert code.indices is not None and code.indices.shape == (7, K) and fit.seconds > 0
        f = torch.einsum("tn,ncd->tcd", code.dense(N), atoms) + code.bias[:, None]
        torch.testing.assert_close(fit.residual, (f - values).square().mean((1, 2)), rtol=1e-3, atol=1e-6)
        assert fit.residual.mean() < 3 * best, label


def test_a_prior_that_was_not_learned_is_missed() -> None:
    model, values = made()
    with pytest.raises(UserError, match=r"the prior on merged heads .*found none, expected one that the training"):
        fit_signals(model, Sampling(model.coords), values, [Method("map")])
    model, values = made("coding.prior_rank=0")
    assert model.stored_prior is None and model.prior is None


def test_ridge_on_the_gate_s_support_is_least_squares() -> None:
    model, values = made()
    code = fit_signals(model, Sampling(model.coords), values, [Method("ridge", ridge=0.0)])["ridge"].code
    gate = model.encode(values)
    assert code.indices is not None and torch.equal(code.indices.sort(1).values, gate.indices.sort(1).values)
    atoms = model.dictionary.atoms(model.coords).numpy().astype(np.float64)
    for signal in range(7):
        ones = np.kron(np.ones((SIDE * SIDE, 1)), np.eye(2))
        design = np.concatenate([atoms[code.indices[signal].numpy()].reshape(K, -1).T, ones], 1)
        solution = np.linalg.lstsq(design, values[signal].reshape(-1).numpy().astype(np.float64), rcond=None)[0]
        np.testing.assert_allclose(code.values[signal], solution[:K], rtol=2e-3, atol=1e-3)
        np.testing.assert_allclose(code.bias[signal], solution[K:], rtol=2e-3, atol=1e-3)


def test_many_signals_go_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    model, values = made()
    whole = fit_signals(model, Sampling(model.coords), values, ALL)
    monkeypatch.setattr(fitting, "_SIGNALS", 3)
    parts = fit_signals(model, Sampling(model.coords), values, ALL)
    for label, fit in whole.items():
        torch.testing.assert_close(parts[label].residual, fit.residual, rtol=1e-4, atol=1e-6)
        dense, other = fit.code.dense(N), parts[label].code.dense(N)
        torch.testing.assert_close(other, dense, rtol=1e-3, atol=1e-4)


def test_other_coordinates_than_the_gate_s() -> None:
    model, values = made()
    coords = torch.rand(50, 2) * 2 - 1
    seen = values
    measured = torch.einsum("tn,ncd->tcd", torch.eye(N)[:7], model.dictionary.atoms(coords)) + 0.3
    fits = fit_signals(model, Sampling(coords), measured, [Method("omp"), Method("ridge")], seen)
    assert (fits["omp"].residual < 1e-6).all()
    code = fits["omp"].code
    torch.testing.assert_close(code.dense(N), torch.eye(N)[:7], atol=2e-3, rtol=0)
    gate = model.encode(seen)
    assert torch.equal(fits["ridge"].code.indices, gate.indices)


@pytest.mark.parametrize("kind", ["none", "codebook"])
def test_without_a_gate_only_omp(kind: str) -> None:
    model, values = made(f"coding.gate={{kind: {kind}}}", "coding.phases=[{mode: solve}]")
    assert list(fit_signals(model, Sampling(model.coords), values, [Method("omp")])) == ["omp"]
    for method in ALL[:3]:
        with pytest.raises(UserError, match="the gate's code .*found coding.gate.kind"):
            fit_signals(model, Sampling(model.coords), values, [method])
