"""The model: dictionary and gate from one configuration and one seed."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from nid_dist.config import Config, load_config
from nid_dist.detail.detail import Detail
from nid_dist.detail.splines import SplineGrid
from nid_dist.errors import UserError
from nid_dist.model import Model, seeded

SIZES = ["dictionary.experts=12", "dictionary.width=10", "coding.support=3", "signals.patch=6", "coding.gate.width=4"]


def made(*overrides: str, **options: Any) -> Model:
    config: Config = load_config(None, [*SIZES, "coding.phases=[{mode: solve}]", *overrides])
    return Model(config, channels=3, grid_shape=(6, 6), signals=5, **options)


@pytest.mark.parametrize("kind", ["light", "conv", "resnet", "codebook", "unrolled", "none"])
def test_the_seed_alone_decides_the_initial_values(kind: str) -> None:
    one = made(f"coding.gate.kind={kind}")
    torch.manual_seed(99)
    same, other = made(f"coding.gate.kind={kind}"), made(f"coding.gate.kind={kind}", "training.seed=1")
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in one.state_dict().items())
    assert not all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert (one.gate is None) == (kind == "none")


def test_seeds_of_any_size() -> None:
    assert seeded(3).initial_seed() == 3
    assert seeded(2**63 + 3).initial_seed() == 3
    assert seeded(10**40).initial_seed() >= 0


def test_encode_keeps_the_k_largest_logits_with_their_sign() -> None:
    model, values = made(), torch.rand(4, 36, 3)
    logits, code = model.gate_output(values).logits, model.encode(values)
    dense = code.dense(12)
    for row, kept in zip(logits.detach(), dense, strict=True):
        order = row.abs().argsort(descending=True)
        assert torch.equal(kept[order[:3]], row[order[:3]]) and not kept[order[3:]].any()
    assert not code.values.requires_grad


@pytest.mark.parametrize("kind", ["light", "codebook"])
def test_logits_of_very_many_experts_are_predicted_for_a_few_signals_at_a_time(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    model, values, ids = made(f"coding.gate.kind={kind}"), torch.rand(5, 36, 3), torch.arange(5)
    whole = model.encode(values, ids)
    monkeypatch.setattr("nid_dist.model._FLOATS", 2 * 12)
    parts = model.encode(values, ids)
    assert torch.equal(parts.indices, whole.indices)
    torch.testing.assert_close((parts.values, parts.bias), (whole.values, whole.bias))


@pytest.mark.parametrize("kind", ["codebook", "none"])
def test_codes_of_new_signals_need_a_gate_that_sees(kind: str) -> None:
    model, values = made(f"coding.gate.kind={kind}"), torch.rand(4, 36, 3)
    assert not model.gate_reads_signals
    with pytest.raises(UserError, match=rf"found coding.gate.kind '{kind}', expected a gate that looks"):
        model.encode(values)
    with pytest.raises(UserError, match="fit by omp"):
        model.require_gate()


def test_a_codebook_knows_its_training_signals() -> None:
    model = made("coding.gate.kind=codebook")
    one, other = (model.gate_output(torch.rand(2, 36, 3), torch.tensor([4, 0])) for _ in range(2))
    assert torch.equal(one.logits, other.logits)


def test_the_grid_is_no_parameter_and_is_not_saved() -> None:
    model = made()
    assert model.coords.shape == (36, 2) and "coords" not in model.state_dict()
    assert model.coords[0].tolist() == pytest.approx([-5 / 6, -5 / 6]) and model.support == 3


def test_synchronising_gives_an_unrolled_gate_the_present_atoms() -> None:
    model = made("coding.gate={kind: unrolled, iterations: 2}")
    model.synchronise_gate()
    with torch.no_grad():
        model.dictionary.experts.rows.mul_(2.0).add_(0.1)
    before = model.gate.pseudo_inverse.clone()
    model.synchronise_gate(analysis=False)
    atoms = model.dictionary.atoms(model.coords).detach()
    torch.testing.assert_close(model.gate.atom_means, atoms.mean(1))
    assert torch.equal(model.gate.pseudo_inverse, before)
    model.synchronise_gate()
    assert not torch.equal(model.gate.pseudo_inverse, before)


def test_a_grid_may_have_any_number_of_axes() -> None:
    config = load_config(None, [*SIZES, "coding.phases=[{mode: gate}]", "coding.gate.kind=codebook"])
    model = Model(config, channels=1, grid_shape=(2, 3, 4), signals=5)
    assert model.coords.shape == (24, 3) and model.dictionary.in_dim == 3
    # The middles of 2, 3 and 4 cells, the last axis fastest.
    assert model.coords[0].tolist() == pytest.approx([-1 / 2, -2 / 3, -3 / 4])
    assert model.coords[1].tolist() == pytest.approx([-1 / 2, -2 / 3, -1 / 4])
    assert model.coords[-1].tolist() == pytest.approx([1 / 2, 2 / 3, 3 / 4])
    code = model.encode(torch.zeros(2, 24, 1), torch.tensor([0, 4]))
    assert model.dictionary(code, model.coords).shape == (2, 24, 1)


def test_detail_is_added_where_f_is_evaluated() -> None:
    model, grids = made(), (SplineGrid.covering((2, 2)), SplineGrid.covering((4, 4)))
    code = model.encode(torch.rand(4, 36, 3))
    detail = Detail(grids, torch.randn(4, sum(grid.size for grid in grids), 3))
    detailed, coords = replace(code, detail=detail), torch.rand(9, 2) * 2 - 1
    torch.testing.assert_close(model.evaluate(detailed, coords), model.evaluate(code, coords) + detail(coords))
    own = torch.rand(4, 9, 2) * 2 - 1
    torch.testing.assert_close(model.evaluate(detailed, own), model.evaluate(code, own) + detail(own))
    assert model.render(detailed, 8, 4).shape == (4, 8, 4, 3)
