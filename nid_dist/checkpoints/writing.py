"""Tensors written into a safetensors file in pieces: no second copy of them is held, on whatever device they are."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

# https://huggingface.co/docs/safetensors/index#format
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_PIECE = 2**24  # numbers
_ALIGNMENT = 8  # of the first tensor's bytes


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """Write tensors of any device, strided or sharing memory, and wait until they are on the disk.

    Returns:
        The size of the file in bytes.

    Raises:
        OSError: when it cannot be written.
    """
    # Wide numbers first: so each tensor is aligned to its own.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    end = 0
    for name in names:
        tensor, begin = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            for piece in tensors[name].detach().contiguous().view(-1).split(_PIECE):
                file.write(piece.cpu().view(torch.uint8).numpy())
        file.flush()
        os.fsync(file.fileno())
        return file.tell()
