"""The training set: each window of the training sounds is one signal, its pressures mapped from [-1, 1] to [0, 1]."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.data.cache import ImageCache
from nid_dist.data.files import existing_folder, split_folder
from nid_dist.data.resident import Residents
from nid_dist.data.splits import SPLITS, Split, assign_splits
from nid_dist.device import to_device
from nid_dist.errors import UserError, doubt
from nid_dist.tasks.audio.config import AudioSection
from nid_dist.tasks.audio.reading import (
    ENDINGS,
    Sound,
    Wave,
    laid_out,
    read_sound,
    resampled,
    resampled_length,
    sound_length,
)
from nid_dist.tasks.audio.synthetic import RATE, named_sound, sound_names

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class SoundRef:
    """A sound that can be read."""

    name: str  # unique in its source
    load: Callable[[], Sound]
    length: Callable[[], tuple[int, int]]  # samples of a channel and samples per second, without decoding


def list_sounds(section: AudioSection) -> dict[Split, list[SoundRef]]:
    """The sounds of a configuration for "train", "val" and "test", at most `limit` each.

    Raises:
        UserError: for a folder that is not there, or rules that leave nothing to train on.
    """
    if section.path is None:
        names = assign_splits(
            sound_names(section.sounds), section.val, section.test, where="the made sounds", noun="sound"
        )
        refer = partial(_made, section)
    else:
        root = existing_folder(section.path, "sound")
        names = split_folder(root, ENDINGS, section.val, section.test, "sound")
        refer = partial(_file, root)
    return {split: [refer(name) for name in names[split][: section.limit]] for split in SPLITS}


def prepared(sound: Sound, section: AudioSection, name: str) -> Wave:
    """A sound's wave in the layout and at the rate that a configuration asks for."""
    return resampled(laid_out(sound.wave, section.layout, name), sound.rate, section.rate)


def to_values(wave: Float[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Pressures, full scale being 1, as values around the middle of [0, 1]."""
    return (0.5 + 0.5 * wave).astype(np.float32)


def to_wave(values: Float[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Undoes `to_values`; nothing is cut."""
    return (2.0 * values - 1.0).astype(np.float32)


class AudioSignals:
    """Windows of sounds at a fixed step, read when they are needed; the last one of a sound is shifted inwards.

    All windows share the grid `coords`, [C, 1].

    Raises:
        UserError: a sound is shorter than a window, or cannot be measured.

    Warns:
        DoubtfulMeaning: when they have several rates that are kept.
    """

    def __init__(self, refs: Sequence[SoundRef], section: AudioSection) -> None:
        self._refs, self._section = list(refs), section
        self._window, self._stride = section.window, section.stride or section.window
        self._cache = ImageCache(section.cache_mb * 2**20)
        self.coords: Float[Tensor, "C 1"] = coordinate_grid(section.grid_shape)
        rates = Counter[int]()
        self._lengths = [self._measure(ref, rates) for ref in self._refs]
        if section.rate is None and len(rates) > 1:
            doubt(
                "signals.rate",
                found=f"null, and sounds at {' and '.join(str(rate) for rate in sorted(rates)[:4])} samples per second",
                taken_as="windows of as many samples, whatever time they last",
                hint="set signals.rate, to which all are resampled",
            )
        counts = [-(-(length - self._window) // self._stride) + 1 for length in self._lengths]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._residents = Residents(self._lengths, section.channels, self._read)

    def __len__(self) -> int:
        """Number of windows over all sounds."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def values(self, ids: Int[Tensor, "T"], device: torch.device = _CPU) -> Float[Tensor, "T C d"]:
        """Read windows, by ids in [0, len(self)): values around the middle of [0, 1].

        Another device than the CPU keeps the sounds, where it has room for all, and cuts them itself.

        Raises:
            UserError: a sound cannot be read, or its file has changed.
        """
        places = [self._place(signal) for signal in ids.tolist()]
        sounds, firsts = np.array(places).T
        resident = self._residents.on(device)
        if resident is not None and resident.require(sounds):
            first = to_device(torch.from_numpy(resident.starts(sounds) + firsts), device)
            return resident.rows(first[:, None] + torch.arange(self._window, device=device))
        out = np.empty((len(ids), self._window, self._section.channels), dtype=np.float32)
        # Sound by sound, so that even a batch larger than the cache reads each one once.
        order = sorted(range(len(places)), key=lambda position: places[position])
        for index, positions in groupby(order, key=lambda position: places[position][0]):
            values = self._read(index)
            for position in positions:
                start = places[position][1]
                out[position] = values[start : start + self._window]
        return to_device(torch.from_numpy(out), device)

    def _read(self, index: int) -> Float32[np.ndarray, "N d"]:
        return self._cache.get(index, partial(self._load, index))

    def _load(self, index: int) -> Float32[np.ndarray, "N d"]:
        ref = self._refs[index]
        values = to_values(prepared(ref.load(), self._section, ref.name))
        if len(values) != self._lengths[index]:
            raise UserError(
                ref.name,
                found=f"{len(values)} samples",
                expected=f"{self._lengths[index]} samples, as at the start",
                hint="restore it, and do not change the sounds during a run",
            )
        return values

    def _measure(self, ref: SoundRef, rates: Counter[int]) -> int:
        length, rate = ref.length()
        rates[rate] += 1
        length = resampled_length(length, rate, self._section.rate)
        if length < self._window:
            raise UserError(
                ref.name,
                found=f"{length} samples",
                expected=f"at least signals.window {self._window}",
                hint="choose a smaller signals.window, or remove the sound",
            )
        return length

    def _place(self, signal: int) -> tuple[int, int]:
        """Sound and first sample of a window."""
        if not 0 <= signal < len(self):
            raise IndexError(f"signal {signal} of {len(self)}")
        index = int(np.searchsorted(self._ends, signal, side="right"))
        step = signal - (int(self._ends[index - 1]) if index else 0)
        return index, min(step * self._stride, self._lengths[index] - self._window)


def _made(section: AudioSection, name: str) -> SoundRef:
    rate = section.rate or RATE
    length = max(1, round(section.seconds * rate)), rate
    return SoundRef(name, partial(named_sound, name, section.sounds_seed, section.seconds, rate), lambda: length)


def _file(root: Path, name: str) -> SoundRef:
    return SoundRef(name, partial(read_sound, root / name), partial(sound_length, root / name))
