"""A model: the dictionary, the gate that predicts codes for it, and the configuration that made both."""

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nid_dist.code import Code
from nid_dist.coding.gates import make_gate
from nid_dist.coding.gates.base import GateOutput
from nid_dist.coding.gates.unrolled import UnrolledGate
from nid_dist.coding.prior import Prior, StoredPrior
from nid_dist.coding.solvers import reduce_problem
from nid_dist.coding.topk import signed_top_k
from nid_dist.config.schema import Config
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.errors import UserError
from nid_dist.measurements.sampling import Sampling
from nid_dist.parallel.exchange.exchange import Exchange


def seeded(seed: int) -> torch.Generator:
    """A generator on the CPU from a seed of any size.

    Args:
        seed: not negative; PyTorch itself takes 64 bits.

    Returns:
        The generator.
    """
    return torch.Generator().manual_seed(seed % 2**63)


class Model(nn.Module):
    """Dictionary and gate.

    Args:
        config: the whole configuration.
        channels: d.
        grid_shape: shape of the grid on which the gate sees a signal, (H, W) for images; it has m axes.
        signals: number of training signals (the codebook's rows).
        exchange: how codes reach the experts; all experts here by default.
    """

    coords: Float[Tensor, "C m"]

    def __init__(
        self,
        config: Config,
        *,
        channels: int,
        grid_shape: tuple[int, ...],
        signals: int,
        exchange: Exchange | None = None,
    ) -> None:
        super().__init__()
        self.config, self.channels, self.grid_shape, self.signals = config, channels, grid_shape, signals
        generator = seeded(config.training.seed)
        self.dictionary = Dictionary(config.dictionary, len(grid_shape), channels, generator, exchange)
        self.gate: nn.Module | None = None
        if config.coding.gate.kind != "none":
            self.gate = make_gate(
                config.coding.gate,
                experts=config.dictionary.experts,
                channels=channels,
                grid_shape=grid_shape,
                signals=signals,
                support=config.coding.support,
                generator=generator,
            )
        self.stored_prior: StoredPrior | None = None
        if self.dictionary.linear and config.coding.prior_rank:
            self.stored_prior = StoredPrior(channels * (self.dictionary.trunk.out_dim + 1), config.coding.prior_rank)
        self.register_buffer("coords", coordinate_grid(grid_shape), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.coords.device

    @property
    def support(self) -> int:
        """k, the most non-zero coefficients of a code."""
        return self.config.coding.support

    @property
    def prior(self) -> Prior | None:
        """What merged heads of training signals look like; None where it has not been learned."""
        return None if self.stored_prior is None else self.stored_prior.value

    def require_prior(self) -> Prior:
        """The prior.

        Raises:
            UserError: when the dictionary has none.
        """
        prior = self.prior
        if prior is None:
            linear = self.dictionary.linear
            raise UserError(
                "the prior on merged heads (solver map)",
                found="none" if linear else "deep experts, which have no merged head",
                expected="one that the training's end has learned (coding.prior_rank above 0, linear heads)",
                hint="train to the end, or choose another solver" if linear else "choose another solver",
            )
        return prior

    def gate_output(self, values: Float[Tensor, "T C d"], ids: Int[Tensor, "T"] | None = None) -> GateOutput:
        """The gate's logits and biases.

        Args:
            values: signals on the gate's grid.
            ids: which training signals they are (codebook only); None: new signals.

        Returns:
            The gate's output.

        Raises:
            UserError: without a gate, or when a codebook is asked about a new signal.
        """
        if self.gate is None or ids is None:
            self.require_gate()
            assert self.gate is not None
        known = ids if ids is not None else torch.zeros(len(values), dtype=torch.long, device=values.device)
        output: GateOutput = self.gate(values, known)
        return output

    def unsharded(self) -> "Model":
        """The model with all n experts in this process: itself, or with sharded experts a copy with the same gate.

        To be called on all ranks that share the experts; the copy needs no other rank.

        Returns:
            A model to evaluate, not to train.
        """
        if self.dictionary.exchange.ranks == 1:
            return self
        whole = copy.copy(self)
        whole._modules = self._modules | {"dictionary": self.dictionary.unsharded()}
        return whole

    @property
    def gate_reads_signals(self) -> bool:
        """Whether there is a gate that predicts codes of new signals."""
        return self.config.coding.gate.kind not in ("none", "codebook", "temporal")

    def require_gate(self) -> None:
        """Refuse what needs codes of new signals predicted, where no gate can.

        Raises:
            UserError: without a gate, or with a codebook, which knows its training signals only.
        """
        if not self.gate_reads_signals:
            raise UserError(
                "the gate's code (init, and adam and ridge from it)",
                found=f"coding.gate.kind {self.config.coding.gate.kind!r}",
                expected="a gate that looks at the signal",
                hint="fit with --solver omp, which needs no gate, or train with another coding.gate.kind",
            )

    @torch.no_grad()
    def encode(self, values: Float[Tensor, "T C d"], ids: Int[Tensor, "T"] | None = None) -> Code:
        """The gate's code of signals: the instant representation.

        Args:
            values: signals on the gate's grid.
            ids: as for `gate_output`.

        Returns:
            Codes of k coefficients.
        """
        output = self.gate_output(values, ids)
        return signed_top_k(output.logits, output.bias, self.support)

    def synchronise_gate(self, analysis: bool = True) -> None:
        """Give a gate that unrolls the dictionary its present atoms; other gates need nothing.

        To be called on all ranks that share the experts.

        Args:
            analysis: also reset the gate's learned analysis operator.
        """
        if isinstance(self.gate, UnrolledGate):
            empty = self.coords.new_zeros(0, len(self.coords), self.channels)
            problem = reduce_problem(self.dictionary.unsharded(), Sampling(self.coords), empty, through="atoms")
            self.gate.synchronise(problem.atoms, problem.atom_means, analysis=analysis)
