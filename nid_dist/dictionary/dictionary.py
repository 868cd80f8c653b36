"""The dictionary: trunk, experts and the exchange between them; f(x) = beta + sum_j alpha_j b_j(x)."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nid_dist.code import Code
from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.dictionary.deep_experts import DeepExperts
from nid_dist.dictionary.evaluation import cheaper_strategy, chunk_bytes, evaluate_then_combine, merge_then_evaluate
from nid_dist.dictionary.linear_heads import LinearHeads
from nid_dist.dictionary.trunk import Trunk
from nid_dist.parallel.exchange.exchange import Exchange, LocalExchange


class Dictionary(nn.Module):
    """n experts b_j: R^m -> R^d on a shared trunk.

    Args:
        generator: of every initial value.
        exchange: how codes reach the experts; all experts here by default.
    """

    def __init__(
        self,
        config: DictionaryConfig,
        in_dim: int,
        channels: int,
        generator: torch.Generator,
        exchange: Exchange | None = None,
    ) -> None:
        super().__init__()
        self.config, self.in_dim, self.channels = config, in_dim, channels
        self.exchange: Exchange = exchange if exchange is not None else LocalExchange()
        self.trunk = Trunk(config, in_dim, generator)
        self.experts: LinearHeads | DeepExperts
        if config.private_layers == 1:
            self.experts = LinearHeads(config.experts, channels, self.trunk.out_dim, generator, config.merge)
        else:
            self.experts = DeepExperts(
                config.experts,
                channels,
                self.trunk.out_dim,
                config.private_layers,
                config.private_width,
                config.activation,
                config.omega,
                first=config.shared_layers == 0,
                generator=generator,
            )
        if self.exchange.ranks > 1:
            self._keep_owned()

    def _keep_owned(self) -> None:
        # All n are drawn on every rank and the others' dropped, so that initial values do not depend on R.
        owned = slice(self.exchange.first_expert, self.exchange.first_expert + self.num_experts // self.exchange.ranks)
        for parameter in self.experts.parameters():
            parameter.data = parameter.data[owned].clone()
        self.experts.num_experts = owned.stop - owned.start

    @property
    def num_experts(self) -> int:
        """n, the total number of experts."""
        return self.config.experts

    @property
    def linear(self) -> bool:
        """Whether the experts are linear heads, which can be merged."""
        return isinstance(self.experts, LinearHeads)

    def forward(self, code: Code, coords: Float[Tensor, "*shared C m"]) -> Float[Tensor, "T C d"]:
        """Evaluate the signals of some codes at coordinates in [-1, 1]^m, shared or per signal."""
        arriving = self.exchange.dispatch(code)
        features = self.trunk(coords)  # while the codes are on their way
        experts, routed = self.experts, arriving()
        if isinstance(experts, LinearHeads) and self._strategy(code, coords) == "merge":
            values = merge_then_evaluate(experts, features, routed, code.signals, self.exchange)
        else:
            size = chunk_bytes(self.config.chunk_mb, features.device)
            values = evaluate_then_combine(experts, features, routed, code.signals, self.exchange, size)
        return values + code.bias[:, None]

    def atoms(self, coords: Float[Tensor, "C m"], first: int = 0, last: int | None = None) -> Float[Tensor, "U C d"]:
        """Evaluate the experts first ... last - 1 held here (None: to the end), on shared coordinates in [-1, 1]^m."""
        return self.experts.evaluate(self.trunk(coords), [tensor[first:last] for tensor in self.experts.tensors])

    @torch.no_grad()
    def atom_norms(self) -> Float[Tensor, "n"] | None:
        """How large experts are, which components are relative to: norms of linear heads; None for deep ones.

        To be called on all ranks that share the experts.
        """
        if not isinstance(self.experts, LinearHeads):
            return None
        return self.exchange.gather(self.experts.rows.norm(dim=1))

    def unsharded(self) -> "Dictionary":
        """The dictionary with all n experts in this process: itself, or with sharded experts a frozen copy.

        To be called on all ranks that share the experts; the copy needs no other rank.
        """
        if self.exchange.ranks == 1:
            return self
        whole = copy.copy(self)
        whole._modules = self._modules | {"experts": _gathered(self.experts, self.exchange)}
        whole.exchange = LocalExchange()
        return whole

    def _strategy(self, code: Code, coords: Tensor) -> str:
        if self.config.strategy != "auto":
            return self.config.strategy
        if self.exchange.ranks > 1:
            # All ranks must choose alike, whatever their batches; and merged heads are the smaller message.
            return "merge"
        return cheaper_strategy(
            signals=code.signals,
            coordinates=coords.shape[-2],
            support=code.values.shape[1],
            experts=self.experts.num_experts,
            channels=self.channels,
            width=self.trunk.out_dim,
            shared=coords.dim() == 2,
        )


def _gathered(module: nn.Module, exchange: Exchange) -> nn.Module:
    """A copy of experts, or of a part of them, that holds those of all ranks."""
    copied = copy.copy(module)
    copied._parameters = {
        name: None if p is None else nn.Parameter(exchange.gather(p), requires_grad=False)
        for name, p in module._parameters.items()
    }
    copied._modules = {
        name: None if child is None else _gathered(child, exchange) for name, child in module._modules.items()
    }
    if isinstance(copied, LinearHeads | DeepExperts):
        copied.num_experts *= exchange.ranks
    return copied
