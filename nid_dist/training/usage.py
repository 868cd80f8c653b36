"""How the experts are used over the last steps: load, dead experts, imbalance."""

import torch
from torch import Tensor

from nid_dist.coding.code import Code


class ExpertUsage:
    """Counts how often each expert was chosen since the last `reset`.

    Args:
        experts: n.
    """

    def __init__(self, experts: int) -> None:
        self.counts: Tensor = torch.zeros(experts, dtype=torch.long)

    def add(self, code: Code) -> None:
        """Count the non-zero coefficients of a batch's codes."""
        if code.indices is None:
            self.counts += (code.values.detach() != 0).sum(0)
            return
        chosen = code.indices[code.values.detach() != 0]
        self.counts += torch.bincount(chosen, minlength=len(self.counts))

    def facts(self) -> dict[str, float]:
        """`dead_experts` (never chosen) and `imbalance` (largest count over mean count)."""
        mean = self.counts.float().mean().item()
        return {
            "dead_experts": float((self.counts == 0).sum()),
            "imbalance": self.counts.max().item() / mean if mean else 0.0,
        }

    def reset(self) -> None:
        """Start a new window."""
        self.counts.zero_()
