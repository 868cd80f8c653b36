"""A model: the dictionary, the gate that predicts codes for it, and the configuration that made both."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, overload, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nid_dist.code import Code
from nid_dist.coding.fit import Fit
from nid_dist.coding.gates import make_gate
from nid_dist.coding.gates.base import GateOutput
from nid_dist.coding.gates.codebook import CodebookGate
from nid_dist.coding.gates.pursuit import PursuitGate
from nid_dist.coding.gates.unrolled import UnrolledGate
from nid_dist.coding.judgement import distances
from nid_dist.coding.method import Method
from nid_dist.coding.mixture import Mixture, StoredMixture
from nid_dist.coding.prior import Prior, StoredPrior
from nid_dist.coding.solvers import reduce_problem
from nid_dist.coding.topk import signed_top_k
from nid_dist.config.schema import Config
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.device import resolve_device
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.errors import UserError
from nid_dist.measurements.sampling import Sampling
from nid_dist.memory import floats_at_once
from nid_dist.parallel.exchange.exchange import Exchange

_FLOATS = 2**26  # of features, or of logits, at a time: 256 MiB


@runtime_checkable
class Fitter(Protocol):
    """How a task fits its signals: bound to a model by `nid_dist.load` and `nid_dist.train`."""

    def __call__(
        self, model: "Model", signals: Sequence[Any], methods: Sequence[str | Method] | None, **options: Any
    ) -> Iterator[dict[str, Fit]]:
        """The fits of one signal after the other, by the methods' labels; None: the task's usual method."""
        ...


def seeded(seed: int) -> torch.Generator:
    """A generator on the CPU from a seed of any size, not negative; PyTorch itself takes 64 bits."""
    return torch.Generator().manual_seed(seed % 2**63)


class Model(nn.Module):
    """Dictionary and gate.

    Args:
        grid_shape: shape of the grid on which the gate sees a signal, (H, W) for images; it has m axes.
        signals: number of training signals (the codebook's rows).
        exchange: how codes reach the experts; all experts here by default.
    """

    coords: Float[Tensor, "C m"]
    fitter: Fitter | None = None

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
        self.validation: dict[str, float] = {}
        """How well signals were fitted that were not trained on, as its training last measured it."""
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
        self.stored_mixture: StoredMixture | None = None
        if self.dictionary.linear and config.coding.prior_rank:
            size = channels * (self.dictionary.trunk.out_dim + 1)
            self.stored_prior = StoredPrior(size, config.coding.prior_rank)
            if config.coding.mixture:
                self.stored_mixture = StoredMixture(config.coding.mixture, min(size, config.coding.prior_rank))
        self.register_buffer("coords", coordinate_grid(grid_shape), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model computes, and where codes have to be that it evaluates."""
        return self.coords.device

    def to(self, *args: Any, **kwargs: Any) -> "Model":
        """As of any module; a device by its name may also be `auto`, and one that is not there is refused in a line."""
        if args and isinstance(args[0], str):
            args = (resolve_device(args[0]), *args[1:])
        return super().to(*args, **kwargs)

    @overload
    def fit(self, signal: list[Any], method: "str | Method | None" = None, **options: Any) -> list[Fit]: ...
    @overload
    def fit(self, signal: Any, method: list[Any], **options: Any) -> Any: ...
    @overload
    def fit(self, signal: Any, method: "str | Method | None" = None, **options: Any) -> Fit: ...
    def fit(self, signal: Any, method: "str | Method | list[Any] | None" = None, **options: Any) -> Any:
        """Represent a signal by a code, or several by one each.

        Args:
            signal: what the dictionary's task takes. Images: a path or an array [H, W, d]. CT: a sinogram and its
                geometry. Shapes: a cloud as a path or an array [P, 3 or 6]. Video: a path or frames [T, H, W, d]. A
                list: several of them, one after the other.
            method: `omp`, `adam5`, ... or a `Method`; a list of them; None: the task's usual one.
            options: of the task, for example `stride` and `mask` of images.

        Returns:
            The fit; of several methods a dictionary of fits by label; of several signals a list of these.

        Raises:
            UserError: for a signal that the dictionary does not know, or a method that needs what it lacks.
        """
        if self.fitter is None:
            raise UserError(
                "the model",
                found="no task, whose signals it could fit",
                expected="one of nid_dist.load or nid_dist.train",
                hint="load it, or fit by nid_dist.fitting.fit_signals",
            )
        signals = signal if isinstance(signal, list) else [signal]
        methods = method if isinstance(method, list) or method is None else [method]
        found = [
            fits if isinstance(method, list) else next(iter(fits.values()))
            for fits in self.fitter(self.unsharded(), signals, methods, **options)
        ]
        return found if isinstance(signal, list) else found[0]

    @torch.no_grad()
    def evaluate(self, code: Code, coords: Float[Tensor, "C m"] | Float[Tensor, "T C m"]) -> Float[Tensor, "T C d"]:
        """f at coordinates, detail and all, so many at a time that memory stays bounded; on the model's device.

        The coordinates are in [-1, 1]^m, shared by all T signals or each signal's own.

        Raises:
            UserError: for a code on another device.
        """
        if code.device != self.device:
            raise UserError(
                "the code",
                found=f"one on {code.device}",
                expected=f"one on {self.device}, where the model is",
                hint=f"move it by code.to({str(self.device)!r}), or the model",
            )
        count, trunk = coords.shape[-2], self.dictionary.trunk
        values = code.bias.new_empty(code.signals, count, self.channels)
        # Coordinates that the signals share are evaluated once for all of a group.
        at_once = max(1, floats_at_once(self.device, _FLOATS) // max(trunk.out_dim, trunk.encoding.out_dim))
        signals = max(1, at_once // max(1, count))
        for first, begin in itertools.product(range(0, code.signals, signals), range(0, count, at_once)):
            part, where = slice(first, first + signals), slice(begin, begin + at_once)
            here = coords[where] if coords.dim() == 2 else coords[part, where]
            some = code.rows(part)
            values[part, where] = self.dictionary(some, here.to(self.device))
            if some.detail is not None:
                values[part, where] += some.detail(here.to(self.device))
        return values

    def render(self, code: Code, *shape: int) -> Float[Tensor, "T *grid d"]:
        """f on a grid of any resolution: values, not clipped, on the model's device, as the code is.

        The shape is such as rows and columns; none: the one that the dictionary was trained on.

        Raises:
            UserError: for a code on another device.
        """
        grid_shape = shape or self.grid_shape
        return self.evaluate(code, coordinate_grid(grid_shape).to(self.device)).unflatten(1, grid_shape)

    @property
    def support(self) -> int:
        """k, the most non-zero coefficients of a code."""
        return self.config.coding.support

    @property
    def prior(self) -> Prior | None:
        """What merged heads of training signals look like; None where it has not been learned."""
        return None if self.stored_prior is None else self.stored_prior.value

    def mahalanobis(self, code: Code) -> float | None:
        """Root mean square distance of signals from the prior's mean, in its deviations; None without one."""
        found = distances(self.dictionary, self.prior, code)
        return None if found is None else float(found.square().mean().sqrt())

    def relative_distance(self, code: Code) -> float | None:
        """As `mahalanobis`, as a multiple of what validation signals had; None where that was not measured."""
        usual = self.validation.get("val/mahalanobis")
        found = None if not usual else self.mahalanobis(code)
        return None if found is None or not usual else found / usual

    @property
    def mixture(self) -> Mixture | None:
        """Kinds of signals along the prior's directions; None where they were not told apart (coding.mixture)."""
        return None if self.stored_mixture is None else self.stored_mixture.value

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
        """The gate's logits and biases for signals on its grid.

        `ids` say which training signals they are (codebook only); None: new signals.

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
        """The model with all n experts here, to evaluate: itself, or with sharded experts a copy with the same gate.

        To be called on all ranks that share the experts; the copy needs no other rank.
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
                hint="fit by omp, which needs no gate, or train with another coding.gate.kind",
            )

    @torch.no_grad()
    def encode(self, values: Float[Tensor, "T C d"], ids: Int[Tensor, "T"] | None = None) -> Code:
        """The gate's code of signals on its grid, with `ids` as for `gate_output`: the instant representation."""
        if isinstance(self.gate, CodebookGate) and ids is not None:
            self.gate.require_known(ids)
        kind = self.coords.dtype  # in bf16 a gate's output may be of fewer bits
        # A logit for every expert, of which there may be very many.
        parts = values.split(max(1, floats_at_once(self.device, _FLOATS) // self.dictionary.num_experts))
        known = [None] * len(parts) if ids is None else ids.split(len(parts[0]) or 1)
        codes = []
        for some, which in zip(parts, known, strict=True):
            output = self.gate_output(some, which)
            codes.append(signed_top_k(output.logits.to(kind), output.bias.to(kind), self.support))
        return codes[0] if len(codes) == 1 else Code.concatenate(codes)

    def synchronise_gate(self, analysis: bool = True) -> None:
        """Give a gate that computes with the dictionary's atoms the present ones; other gates need nothing.

        To be called on all ranks that share the experts.

        Args:
            analysis: also reset the learned analysis operator of an unrolled gate.
        """
        if isinstance(self.gate, UnrolledGate | PursuitGate):
            empty = self.coords.new_zeros(0, len(self.coords), self.channels)
            problem = reduce_problem(self.dictionary.unsharded(), Sampling(self.coords), empty, through="atoms")
            if isinstance(self.gate, PursuitGate):
                self.gate.synchronise(problem.atoms, problem.atom_means)
            else:
                self.gate.synchronise(problem.atoms, problem.atom_means, analysis=analysis)
