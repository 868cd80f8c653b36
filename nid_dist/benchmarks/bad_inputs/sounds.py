"""Sounds: how samples are coded, and at what rate."""

import io
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from nid_dist.benchmarks.bad_inputs.reader import Meaning, Reader, command

_RATE = 8000  # of the dictionary
_ALIKE = 2e-3


def readers(dictionary: Path) -> Iterator[Reader]:
    """WAV, and FLAC, whose checksum covers every sample; read by `nid-fit`."""
    run = partial(_fit, dictionary)
    meanings = [Meaning(what, {"a.wav": bad}, _truth(same), _ALIKE) for what, bad, same in _meanings()]
    yield Reader("wav", {"a.wav": sound(tones())}, ["a.wav"], run, _fitted, share=0.5, meanings=meanings)
    yield Reader("flac", {"a.flac": sound(tones(), form="FLAC")}, ["a.flac"], run, _fitted, share=0.5)


def _truth(same: bool) -> dict[str, bytes] | None:
    return {"a.wav": sound(tones())} if same else None


def _fit(dictionary: Path, given: Path, out: Path) -> int:
    where = ["--dictionary", str(dictionary), "--input", str(given), "--out", str(out), "--device", "cpu"]
    return command("nid-fit")([*where, "--solver", "omp"])


def _fitted(out: Path) -> np.ndarray:
    wave, _ = soundfile.read(next(path for path in sorted(out.rglob("omp.*")) if path.suffix != ".png"))
    samples: np.ndarray = wave if wave.ndim == 1 else wave.mean(1)
    return samples


def tones(rate: int = _RATE) -> np.ndarray:
    """A tenth of a second of two tones, in [-1, 1]."""
    time = np.arange(rate // 10) / rate
    wave: np.ndarray = 0.5 * np.sin(2 * np.pi * 440 * time) + 0.2 * np.sin(2 * np.pi * 880 * time + 1)
    return wave


def sound(wave: np.ndarray, rate: int = _RATE, subtype: str = "PCM_16", form: str = "WAV", **options: Any) -> bytes:
    """A file that libsndfile writes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, subtype=subtype, format=form, **options)
    return buffer.getvalue()


def _meanings() -> Iterator[tuple[str, bytes, bool]]:
    """What is wrong, a file, and whether it still says the same."""
    wave = tones()
    for subtype in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE"):
        yield subtype, sound(wave, subtype=subtype), True
    yield "AIFF called wav", sound(wave, form="AIFF"), True
    yield "big-endian", sound(wave, endian="BIG"), True
    yield "WAVEX", sound(wave, form="WAVEX"), True
    yield "two equal channels", sound(np.stack([wave, wave], 1)), True
    yield "16-bit units in floats", sound(wave * 32768, subtype="FLOAT"), False
    yield "not numbers", sound(np.where(wave > 0.4, np.nan, wave), subtype="FLOAT"), False
    yield "clipped", sound(np.clip(wave * 3, -1, 1 - 2**-15)), False
    yield "opposite channels", sound(np.stack([wave, -wave], 1)), False
    yield "a constant", sound(wave * 0.1 + 0.8), False
    whole = sound(wave)
    at = whole.index(b"data") + 4
    yield "a length of a stream", whole[:at] + struct.pack("<I", 0xFFFFFFFF) + whole[at + 4 :], True
    yield "half of it", whole[: len(whole) // 2], False
    yield "a rate of nothing", whole[:24] + struct.pack("<I", 0) + whole[28:], False
