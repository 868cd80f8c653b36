import torch

from nid_dist.code import Code
from nid_dist.dictionary.linear_heads import LinearHeads


def heads() -> LinearHeads:
    # Two experts of one channel on two features: b_0 = x + 2y + 10, b_1 = 3x - y - 20.
    made = LinearHeads(2, 1, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        made.rows.copy_(torch.tensor([[1.0, 2.0, 10.0], [3.0, -1.0, -20.0]]))
    return made


def test_a_row_is_weight_then_offset():
    made = LinearHeads(1, 2, 3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        made.rows.copy_(torch.arange(8.0)[None])
    assert made.weight.tolist() == [[[0, 1, 2], [3, 4, 5]]]
    assert made.offset.tolist() == [[6, 7]]


def test_merge_by_hand():
    code = Code(torch.tensor([[2.0, -1.0]]), torch.zeros(1, 1), torch.tensor([[1, 0]]))
    assert heads().merge(code).tolist() == [[5, -4, -50]]


def test_evaluate_merged_by_hand():
    merged = torch.tensor([[5.0, -4.0, -50.0], [1.0, 1.0, 0.0]])
    phi = torch.tensor([[1.0, 1.0], [10.0, 0.0]])
    assert heads().evaluate_merged(phi, merged)[..., 0].tolist() == [[-49, 0], [2, 10]]
    per_signal = torch.stack([phi, 2 * phi])
    assert heads().evaluate_merged(per_signal, merged)[..., 0].tolist() == [[-49, 0], [4, 20]]


def test_evaluate_by_hand():
    made, phi = heads(), torch.tensor([[1.0, 1.0], [10.0, 0.0]])
    assert made.evaluate(phi, made.tensors)[..., 0].tolist() == [[13, 20], [-18, 10]]
    twice = [tensor[[1, 0]] for tensor in made.tensors]
    assert made.evaluate_per_signal(torch.stack([phi, 2 * phi]), twice)[..., 0].tolist() == [[-18, 10], [16, 30]]


def test_initial_atoms_have_unit_variance_on_white_features():
    made = LinearHeads(500, 3, 64, torch.Generator().manual_seed(0))
    atoms = made.evaluate(torch.randn(400, 64), made.tensors)
    assert abs(atoms.square().mean().item() - 1) < 0.02
    assert not made.offset.any()
