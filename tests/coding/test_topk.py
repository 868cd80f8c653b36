import pytest
import torch

from nid_dist.coding.topk import noisy_top_k, signed_top_k


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int = 3) -> torch.Tensor:
    return torch.randn(4, 6, generator=generator(seed), dtype=torch.float64)


def test_signed_top_k_by_hand():
    logits = torch.tensor([[0.1, -3.0, 2.0, 0.0], [1.0, 0.5, -0.2, -4.0]], requires_grad=True)
    bias = torch.tensor([[7.0], [8.0]])
    code = signed_top_k(logits, bias, 2)
    assert code.bias is bias
    assert code.dense(4).tolist() == [[0, -3, 2, 0], [1, 0, 0, -4]]
    code.dense(4).backward(torch.arange(8.0).reshape(2, 4))
    assert logits.grad.tolist() == [[0, 1, 2, 0], [4, 0, 0, 7]]


def test_signed_top_k_of_all():
    logits = torch.randn(3, 5)
    assert torch.equal(signed_top_k(logits, torch.zeros(3, 1), 5).dense(5), logits)


def setting(signals: int = 4, n: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    logits = torch.randn(signals, n, generator=generator(1), dtype=torch.float64)
    scale = 0.3 + torch.rand(signals, n, generator=generator(2), dtype=torch.float64)
    return logits, scale, torch.zeros(signals, 1, dtype=torch.float64)


def test_noisy_top_k_chooses_by_noisy_logits_and_keeps_them():
    logits, scale, bias = setting()
    code, _ = noisy_top_k(logits, scale, bias, 2, normal())
    noisy = logits + scale * normal()
    expected = torch.zeros_like(noisy)
    for row in range(4):
        for index in sorted(range(6), key=lambda j: -abs(noisy[row, j].item()))[:2]:
            expected[row, index] = noisy[row, index]
    torch.testing.assert_close(code.dense(6), expected)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_load_is_the_probability_to_be_chosen_with_the_noise_of_the_others_fixed(k):
    logits, scale, bias = setting()
    _, load = noisy_top_k(logits, scale, bias, k, normal())
    noise = normal()
    draws = torch.randn(100_000, generator=generator(4), dtype=torch.float64)
    expected = torch.zeros(6, dtype=torch.float64)
    for row in range(4):
        magnitude = (logits[row] + noise[row] * scale[row]).abs()
        for j in range(6):
            others = torch.cat([magnitude[:j], magnitude[j + 1 :]]).sort(descending=True).values
            mine = (logits[row, j] + scale[row, j] * draws).abs()
            # Chosen when fewer than k of the others are larger.
            expected[j] += (mine > others[k - 1]).double().mean()
    torch.testing.assert_close(load, expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("k", [1, 3])
def test_load_is_differentiable_in_logits_and_scales(k):
    logits, scale, bias = setting()

    def load(logits, scale):
        return noisy_top_k(logits, scale, bias, k, normal())[1]

    assert torch.autograd.gradcheck(load, (logits.requires_grad_(), scale.requires_grad_()))


def test_values_carry_the_gradient_of_logits_and_scales():
    logits, scale, bias = setting()
    code, _ = noisy_top_k(logits.requires_grad_(), scale.requires_grad_(), bias, 2, normal())
    code.values.sum().backward()
    chosen = torch.zeros(4, 6, dtype=torch.float64).scatter(1, code.indices, 1.0)
    noise = normal()
    torch.testing.assert_close(logits.grad, chosen)
    torch.testing.assert_close(scale.grad, chosen * noise)


def test_noisy_top_k_of_all_loads_every_expert_with_every_signal():
    logits, scale, bias = setting()
    code, load = noisy_top_k(logits, scale, bias, 6, normal())
    assert code.indices.sort(1).values.tolist() == [[0, 1, 2, 3, 4, 5]] * 4
    assert load.tolist() == [4.0] * 6


def test_without_noise_the_load_counts():
    logits, _, bias = setting()
    code, load = noisy_top_k(logits, torch.full_like(logits, 1e-9), bias, 2, normal())
    expected = (code.dense(6) != 0).double().sum(0)
    torch.testing.assert_close(load, expected, atol=1e-6, rtol=0)
