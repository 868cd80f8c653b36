"""The kernel in Triton's interpreter, on the CPU: a process of its own, started with TRITON_INTERPRET=1."""

import itertools

import torch

from nid_dist.merging.kernel import kernel_sum


def compare(signals: int, support: int, experts: int, length: int, repeated: bool, short: bool = False) -> None:
    generator = torch.Generator().manual_seed(signals + support + length)
    values = torch.randn(signals, support, generator=generator)
    values[:, support // 2] = 0  # has a gradient, too
    rows = torch.randn(experts, length, generator=generator)
    indices = torch.stack([torch.randperm(experts, generator=generator)[:support] for _ in range(signals)])
    if repeated:
        indices[:] = indices[0].clone()
    weights = torch.randn(signals, length, generator=generator)
    kind, tolerance = torch.float32, 1e-4
    if short:  # the numbers themselves are exact in both, what comes out is rounded
        kind, tolerance = torch.bfloat16, 2e-2
        values, rows, weights = (x.to(kind).float() for x in (values, rows, weights))
    for of_values, of_rows in ((True, True), (True, False), (False, True), (False, False)):
        found, expected = [], []
        for into, dtype in ((found, kind), (expected, torch.float64)):
            leaves = [values.to(dtype, copy=True).requires_grad_(of_values), rows.to(dtype, copy=True)]
            leaves[1].requires_grad_(of_rows)
            if dtype == kind:
                total = kernel_sum(indices, *leaves)
            else:
                total = torch.zeros(signals, experts, dtype=dtype).scatter_add(1, indices, leaves[0]) @ leaves[1]
            into.append(total.detach())
            if of_values or of_rows:
                (total * weights.to(dtype)).sum().backward()
                into += [leaf.grad for leaf in leaves if leaf.requires_grad]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)


# Sizes about those of a tile, 16 x 128, and one of each.
for (support, experts), length, repeated in itertools.product(
    ((1, 1), (1, 5), (16, 16), (17, 40), (33, 33)), (1, 128, 261), (False, True)
):
    compare(3, support, experts, length, repeated)
compare(3, 17, 40, 261, True, short=True)
