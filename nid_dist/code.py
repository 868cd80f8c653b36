"""The code of a signal: k signed coefficients and where they stand, a bias per channel, and detail, if there is any."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nid_dist.compact.file import is_compact, load_compact
from nid_dist.detail.detail import Detail
from nid_dist.detail.selected import SelectedSplines
from nid_dist.device import resolve_device
from nid_dist.errors import UserError
from nid_dist.files import expanded, replacing
from nid_dist.merging import Way, weighted_sum


@dataclass(frozen=True)
class Code:
    """Codes (alpha_i, beta_i) of T signals, at most k non-zero coefficients each."""

    values: Float[Tensor, "T k"]  # signed coefficients; zero where a signal has fewer than k
    bias: Float[Tensor, "T d"]  # beta, one number per channel
    # which expert each coefficient belongs to, without repeats in a row; None for a dense code, whose coefficient j
    # belongs to expert j (k = n; warm-up)
    indices: Int[Tensor, "T k"] | None = None
    # where there is a coefficient at all, be it zero; what only fills a row up has value 0 and index 0. None:
    # everywhere.
    present: Bool[Tensor, "T k"] | None = None
    # what the learned experts cannot say of the signals, as splines of compact support; None: nothing. The dictionary
    # knows nothing of it: a model adds it where it evaluates f.
    detail: Detail | SelectedSplines | None = None

    @property
    def device(self) -> torch.device:
        """Where the code is."""
        return self.values.device

    def to(self, device: str | torch.device) -> "Code":
        """The same code on another device, by its name `auto`, `cpu`, `cuda` or `cuda:N`."""
        chosen = resolve_device(device) if isinstance(device, str) else device
        indices, present = (None if x is None else x.to(chosen) for x in (self.indices, self.present))
        detail = None if self.detail is None else self.detail.to(chosen)
        return Code(self.values.to(chosen), self.bias.to(chosen), indices, present, detail)

    def save(self, path: str | Path, label: str = "code") -> None:
        """Write the code into a safetensors file, new or replaced; `load_codes` gives it by its label.

        Raises:
            UserError: when it cannot be written.
        """
        save_codes(path, {label: self})

    @property
    def signals(self) -> int:
        """T, the number of signals."""
        return self.values.shape[0]

    def dense(self, experts: int) -> Float[Tensor, "T n"]:
        """All n coefficients, zeros included (differentiable in the values)."""
        if self.indices is None:
            return self.values
        return self.values.new_zeros(self.signals, experts).scatter_add(1, self.indices, self.values)

    def weighted_sum(self, rows: Float[Tensor, "n p"], way: Way = "auto") -> Float[Tensor, "T p"]:
        """sum_j alpha_j row_j of every signal, of the rows' type, differentiable in the values and the rows.

        `way` is one of `nid_dist.merging`; a dense code is a product in any case.
        """
        # Values that an autocast gate made may be of fewer bits than the rows.
        values = self.values.to(rows.dtype)
        return values @ rows if self.indices is None else weighted_sum(self.indices, values, rows, way)

    def detach(self) -> "Code":
        """The same code without gradient."""
        return Code(self.values.detach(), self.bias.detach(), self.indices, self.present, self.detail)

    def rows(self, selection: slice) -> "Code":
        """The codes of some of the signals."""
        indices, present = (None if x is None else x[selection] for x in (self.indices, self.present))
        detail = None if self.detail is None else self.detail.rows(selection)
        return Code(self.values[selection], self.bias[selection], indices, present, detail)

    @staticmethod
    def concatenate(codes: "list[Code]") -> "Code":
        """Stack codes, at least one, of equal k (or all dense), without fillers, over signals in order.

        Raises:
            ValueError: for a mixture of sparse and dense codes, of codes with and without detail, or with it on
                different grids.
        """
        details = [code.detail for code in codes if code.detail is not None]
        if len(details) not in (0, len(codes)):
            raise ValueError("codes with and without detail cannot be stacked")
        indices = [code.indices for code in codes if code.indices is not None]
        if len(indices) not in (0, len(codes)):
            raise ValueError("sparse and dense codes cannot be stacked")
        return Code(
            torch.cat([code.values for code in codes]),
            torch.cat([code.bias for code in codes]),
            torch.cat(indices) if indices else None,
            detail=_together(details) if details else None,
        )


def stored_bytes(code: Code, experts: int) -> int:
    """Bytes per signal as `save_codes` stores it: k indices, of a width that n decides, k values, d biases.

    Of detail, the coefficients that are not zero with their places, 8 bytes each; its share where the signals have one.
    """
    index = torch.tensor([], dtype=_index_type(experts)).element_size()
    detail = 0 if code.detail is None else -(-8 * code.detail.numbers // max(1, code.signals))
    return code.values.shape[1] * (index + 4) + code.bias.shape[1] * 4 + detail


def save_codes(
    path: str | Path, codes: Mapping[str, Code], experts: int | None = None, facts: Mapping[str, Any] | None = None
) -> None:
    """Write codes by several methods, in safetensors, with the facts needed to decode them in its header.

    Args:
        experts: n, where it is known.
        facts: anything that JSON can hold, for example the image's size and tiling.
    """
    tensors, details = {}, {}
    # Copies, as the format takes neither views nor memory under two names: methods may share a support or a bias.
    copy = partial(torch.Tensor.to, device="cpu", copy=True, memory_format=torch.contiguous_format)
    for method, code in codes.items():
        indices = code.indices
        if indices is None:
            indices = torch.arange(code.values.shape[1], device=code.device).expand_as(code.values)
        most = experts or (int(indices.max()) + 1 if indices.numel() else 1)
        tensors[f"{method}.indices"] = copy(indices.detach(), dtype=_index_type(most))
        tensors[f"{method}.values"] = copy(code.values.detach(), dtype=torch.float32)
        tensors[f"{method}.bias"] = copy(code.bias.detach(), dtype=torch.float32)
        if code.detail is not None:
            details[method] = code.detail.facts()
            tensors[f"{method}.detail.places"], tensors[f"{method}.detail.values"] = code.detail.sparse()
    told = {"experts": experts, "methods": list(codes), **(facts or {}), **({"detail": details} if details else {})}
    header = json.dumps(told)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"nid_dist": header, "sha256": _digest(header, tensors)})


def dequantized(
    values: Int64[np.ndarray, "T n"], biases: Int64[np.ndarray, "T d"], step: float, bias_step: float
) -> Code:
    """The code of whole numbers of steps: as many coefficients as the longest has, experts ascending.

    Zeros fill up the others' rows, at experts that these do not use.
    """
    count = max(1, int((values != 0).sum(1).max(initial=0)))
    indices = np.sort(np.argsort(values == 0, axis=1, kind="stable")[:, :count], axis=1)
    chosen = np.take_along_axis(values, indices, 1)
    scaled = [(whole * np.float64(unit)).astype(np.float32) for whole, unit in ((chosen, step), (biases, bias_step))]
    return Code(torch.from_numpy(scaled[0]), torch.from_numpy(scaled[1]), torch.from_numpy(indices))


def load_codes(path: str | Path) -> tuple[dict[str, Code], dict[str, Any]]:
    """Read codes that a fit, or `Code.save`, wrote, in full (`codes.safetensors`) or compact (`SOLVER.nidc`).

    Returns:
        The codes by method, on the CPU, and the facts that were written with them.

    Raises:
        UserError: when it is not such a file.
    """
    if is_compact(path):
        symbols, facts = load_compact(path)
        code = dequantized(symbols.values, symbols.biases, facts["step"], facts["bias_step"])
        return {facts["methods"][0]: code}, facts
    try:
        with safe_open(expanded(path), framework="pt") as file:
            header = file.metadata() or {}
            facts = json.loads(header["nid_dist"])
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            # Files of version 0.1 have none.
            if header.get("sha256", known := _digest(header["nid_dist"], stored)) != known:
                raise ValueError("damaged: its checksum differs")
            codes = {
                method: Code(
                    stored[f"{method}.values"],
                    stored[f"{method}.bias"],
                    stored[f"{method}.indices"].long(),
                    detail=_detail(stored, method, facts),
                )
                for method in facts["methods"]
            }
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            str(path), found=f"no codes ({error})", expected="a codes.safetensors that a fit wrote", hint="fit again"
        ) from error
    return codes, facts


def _digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of facts and tensors, in the order of their names."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _detail(stored: Mapping[str, Tensor], method: str, facts: dict[str, Any]) -> Detail | SelectedSplines | None:
    known = facts.get("detail", {}).get(method)
    if known is None:
        return None
    kind = SelectedSplines if "pixels" in known else Detail
    return kind.of(known, *(stored[f"{method}.detail.{name}"] for name in ("places", "values")))


def _together(details: list[Detail | SelectedSplines]) -> Detail | SelectedSplines:
    chosen = [detail for detail in details if isinstance(detail, SelectedSplines)]
    if chosen and len(details) == 1:
        return chosen[0]
    if chosen:
        raise ValueError("chosen splines of several signals cannot be stacked")
    return Detail.concatenate([detail for detail in details if isinstance(detail, Detail)])


def _index_type(experts: int) -> torch.dtype:
    return torch.uint16 if experts <= 2**16 else torch.int32
