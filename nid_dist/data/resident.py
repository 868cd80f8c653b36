"""Training signals on a device: every array is sent there once, when a step first asks for it, and cut there."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from nid_dist.device import to_device
from nid_dist.memory import room_for_data

_BYTE, _WORD = np.float32(255), np.float32(1 / 65535)

Load = Callable[[int], Shaped[np.ndarray, "*N d"]]


class Resident:
    """Arrays [N_i, d] one after the other on a device, where there is room for all of them.

    Those of uint16 stay so and stand for k / 65535. Those of float32 are kept as bytes as long as all that came are
    samples of 8 bits, k / 255: four times as many fit.

    Args:
        lengths: N_i, of each.
        load: an array by its number, as [..., d]; asked for each once.
    """

    def __init__(self, lengths: Sequence[int], channels: int, load: Load, device: torch.device) -> None:
        self._starts: Int[np.ndarray, "n"] = np.cumsum([0, *lengths])
        self._channels, self._load, self._device = channels, load, device
        self._there = np.zeros(len(lengths), bool)
        self._kept = torch.empty(0, channels, device=device)
        self.refused = False
        """Whether there is too little room."""

    @property
    def complete(self) -> bool:
        """Whether all have been sent."""
        return bool(self._there.all())

    def missing(self, arrays: Int[np.ndarray, "T"]) -> Int[np.ndarray, "M"]:
        """Which of some arrays have not been sent yet."""
        asked: np.ndarray = np.unique(arrays)
        return asked[~self._there[asked]]

    def require(self, arrays: Int[np.ndarray, "T"]) -> bool:
        """Send those of some arrays that are not there yet: whether there is room."""
        for index in self.missing(arrays).tolist():
            given = self._load(index).reshape(-1, self._channels)
            as_bytes = _as_bytes(given) if given.dtype == np.float32 else None
            if not self._has_room(given, as_bytes):
                self.refused, self._kept = True, self._kept[:0].clone()
                return False
            if self._kept.dtype == torch.uint8:
                assert as_bytes is not None
                given = as_bytes
            sent = torch.from_numpy(np.array(given.view(np.int16) if given.dtype == np.uint16 else given))
            self._kept[self._starts[index] : self._starts[index + 1]] = to_device(sent, self._device)
            self._there[index] = True
        return True

    def starts(self, arrays: Int[np.ndarray, "T"]) -> Int[np.ndarray, "T"]:
        """The places of the arrays' first rows among all."""
        return self._starts[arrays]

    def rows(self, places: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape d"]:
        """Rows of what has been sent, by their places among all, which are on the device."""
        found = self._kept[places]
        if found.dtype == torch.int16:
            return found.int().bitwise_and(0xFFFF) * float(_WORD)
        # By a tensor: CUDA multiplies by the reciprocal of a number, which is not the CPU's quotient.
        return found / torch.full((), float(_BYTE), device=self._device) if found.dtype == torch.uint8 else found

    def _has_room(self, given: np.ndarray, as_bytes: UInt8[np.ndarray, "N d"] | None) -> bool:
        """Take the memory for all arrays at the first one, and more where bytes do not tell the values any longer."""
        total, room = int(self._starts[-1]), room_for_data(self._device)
        if not self._there.any():
            dtype = torch.int16 if given.dtype == np.uint16 else torch.float32 if as_bytes is None else torch.uint8
            if total * self._channels * dtype.itemsize > room:
                return False
            self._kept = torch.empty(total, self._channels, dtype=dtype, device=self._device)
        elif as_bytes is None and self._kept.dtype == torch.uint8:
            if 5 * total * self._channels > room:
                return False
            self._kept = self.rows(torch.arange(total, device=self._device))
        return True


class Residents:
    """The same arrays on each device that asks for them; see `Resident`."""

    def __init__(self, lengths: Sequence[int], channels: int, load: Load) -> None:
        self._given, self._on = (lengths, channels, load), dict[torch.device, Resident]()

    def on(self, device: torch.device) -> Resident | None:
        """Those on a device; None for the CPU, and where there is too little room."""
        if device.type == "cpu":
            return None
        if device not in self._on:
            self._on[device] = Resident(*self._given, device)
        return None if self._on[device].refused else self._on[device]


class Constant:
    """A tensor that does not change, wherever it is asked for: sent once."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._on = tensor, {tensor.device: tensor}

    def on(self, device: torch.device) -> Tensor:
        """On a device."""
        if device not in self._on:
            self._on[device] = to_device(self._tensor, device)
        return self._on[device]


def _as_bytes(values: Float[np.ndarray, "N d"]) -> UInt8[np.ndarray, "N d"] | None:
    """The samples of 8 bits that values are, if they are."""
    samples = np.rint(values * _BYTE)
    if not np.array_equal(samples / _BYTE, values):
        return None
    found: np.ndarray = samples.astype(np.uint8)
    return found
