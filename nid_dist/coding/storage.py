"""Codes in a file: safetensors, with the facts needed to decode them in its header."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nid_dist.code import Code
from nid_dist.errors import UserError
from nid_dist.evaluation.report import replacing


def stored_bytes(code: Code, experts: int) -> int:
    """Bytes per signal as `save_codes` stores it: k indices, k values, d biases.

    Args:
        code: sparse codes.
        experts: n, which decides the width of an index.

    Returns:
        Bytes.
    """
    index = torch.tensor([], dtype=_index_type(experts)).element_size()
    return code.values.shape[1] * (index + 4) + code.bias.shape[1] * 4


def save_codes(path: Path, codes: Mapping[str, Code], experts: int, facts: Mapping[str, Any]) -> None:
    """Write codes by several methods.

    Args:
        path: of the file.
        codes: sparse codes by method.
        experts: n.
        facts: anything that JSON can hold, for example the image's size and tiling.
    """
    tensors = {}
    # Copies, as the format takes neither views nor memory under two names: methods may share a support or a bias.
    copy = partial(torch.Tensor.to, device="cpu", copy=True, memory_format=torch.contiguous_format)
    for method, code in codes.items():
        assert code.indices is not None
        tensors[f"{method}.indices"] = copy(code.indices.detach(), dtype=_index_type(experts))
        tensors[f"{method}.values"] = copy(code.values.detach(), dtype=torch.float32)
        tensors[f"{method}.bias"] = copy(code.bias.detach(), dtype=torch.float32)
    header = {"nid_dist": json.dumps({"experts": experts, "methods": list(codes), **facts})}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=header)


def load_codes(path: Path) -> tuple[dict[str, Code], dict[str, Any]]:
    """Read what `save_codes` wrote.

    Args:
        path: of the file.

    Returns:
        The codes by method, and the facts.

    Raises:
        UserError: when it is not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["nid_dist"])
            codes = {
                method: Code(
                    file.get_tensor(f"{method}.values"),
                    file.get_tensor(f"{method}.bias"),
                    file.get_tensor(f"{method}.indices").long(),
                )
                for method in facts["methods"]
            }
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(
            str(path), found=f"no codes ({error})", expected="a codes.safetensors of nid-fit", hint="fit again"
        ) from error
    return codes, facts


def _index_type(experts: int) -> torch.dtype:
    return torch.uint16 if experts <= 2**16 else torch.int32
