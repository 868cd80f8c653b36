"""Fits of sounds that a user gives: paths, or arrays with or without their rate."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nid_dist.coding.method import Method
from nid_dist.errors import UserError, doubt
from nid_dist.files import expanded
from nid_dist.fitting import wrong_kind
from nid_dist.model import Model
from nid_dist.tasks.audio.config import AudioSection
from nid_dist.tasks.audio.fit import AudioFit, fit_sound
from nid_dist.tasks.audio.reading import Sound, read_sound, require_finite

_EXPECTED = "a sound [N] or [N, d], (sound, rate), or its file, as this dictionary is of sounds"


def fit(
    model: Model, signals: Sequence[Any], methods: Sequence[str | Method] | None, *, stride: int | None = None
) -> Iterator[dict[str, AudioFit]]:
    """Fit sounds, one after the other: the fits of each by the methods' labels.

    Args:
        model: of sounds.
        signals: each the path of a sound, an array [N] or [N, d] of floats in [-1, 1] or of int8, int16 or int32 at the
            dictionary's rate, or such an array and its rate.
        methods: None: `omp`.
        stride: step between windows; None: half a window. Overlapping windows are blended.

    Raises:
        UserError: for anything else than a sound, or a method or stride that does not go with it.
    """
    section = model.config.signals_of(AudioSection)
    chosen = [Method.of(method) for method in methods or ["omp"]]
    for signal in signals:
        name = str(signal) if isinstance(signal, str | Path) else "the sound"
        yield fit_sound(model, _sound(signal, section), chosen, stride, name)


def _sound(signal: Any, section: AudioSection) -> Sound:
    if isinstance(signal, str | Path):
        return read_sound(expanded(signal))
    wave, rate = signal if isinstance(signal, tuple) and len(signal) == 2 else (signal, section.rate)
    if isinstance(wave, torch.Tensor):
        wave = wave.detach().cpu().numpy()
    if not isinstance(wave, np.ndarray) or not isinstance(rate, int | None) or (rate is not None and rate < 1):
        raise wrong_kind(signal, _EXPECTED)
    if wave.ndim == 1:
        wave = wave[:, None]
    if wave.ndim != 2 or not len(wave) or not 1 <= wave.shape[1] <= 8 or wave.dtype.kind not in "fi":
        raise wrong_kind(signal, _EXPECTED)
    require_finite(wave, "the sound")
    scale = 1.0 if wave.dtype.kind == "f" else _full_scale(wave)
    return Sound((wave / scale).astype(np.float32), rate)


def _full_scale(wave: np.ndarray) -> float:
    """Of integers, as their type says."""
    loudest = int(np.abs(wave.astype(np.int64)).max())
    if wave.dtype.itemsize > 4:
        raise UserError(
            "the sound",
            found=f"samples of type {wave.dtype}, up to {loudest}",
            expected="int8, int16, int32, or floats in [-1, 1]",
            hint="convert them to the type of their full scale, e.g. wave.astype(numpy.int16)",
        )
    if wave.dtype.itemsize == 4 and 0 < loudest <= 2**15:
        doubt(
            "the sound",
            found=f"32-bit samples up to {loudest}, as of 16 bits",
            taken_as="almost silence",
            hint="convert them: wave.astype(numpy.int16)",
        )
    return -float(np.iinfo(wave.dtype).min)
