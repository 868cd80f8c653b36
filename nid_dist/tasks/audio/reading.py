"""Sound files: read at a rate and in a layout, and written back as they were."""

import io
import re
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from jaxtyping import Float32
from scipy.signal import resample_poly

from nid_dist.errors import UserError, doubt
from nid_dist.files import expanded, replacing

ENDINGS = frozenset({".wav", ".flac", ".ogg", ".oga", ".aif", ".aiff"})
LONGEST = 2**26
"""Samples of a channel: 25 minutes at 44.1 kHz."""
_LOUDEST = 64.0  # times full scale: beyond it samples are in other units, such as those of 16-bit integers
_CANCELLED = 0.03  # of the level of the channels, that is left of their mean
_FULL, _CLIPPED = 1 - 2.0**-15, 1e-3  # full scale of 16 bits, and the share of samples there that is no chance
_SHORT = re.compile(r"(?:data|SSND) : (\d+) \(should be (\d+)\)")  # libsndfile, of a file that is cut
_UNKNOWN = 2**31 - 256  # bytes that headers name where nobody knew how many will come
_EXPECTED = f"a sound file ({', '.join(sorted(ENDINGS))})"

Wave = Float32[np.ndarray, "N d"]


@dataclass(frozen=True)
class Sound:
    """A sound as a file holds it."""

    wave: Wave  # pressure over time, full scale being 1; floating-point files may go beyond
    rate: int | None = None  # samples per second; None: not known
    subtype: str = "FLOAT"  # how the file's samples are coded, in soundfile's words, such as PCM_24
    format: str = "WAV"


def sound_length(path: str | Path) -> tuple[int, int]:
    """Samples of a channel and samples per second, from the file's header.

    Raises:
        UserError: when it is no sound file, or has no sample.
    """
    path = expanded(path)
    try:
        with soundfile.SoundFile(path) as file:
            frames, rate = file.frames, file.samplerate
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error
    if not 0 < frames <= LONGEST:
        raise UserError(
            str(path),
            found=f"{frames} samples",
            expected=f"1 to {LONGEST} samples",
            hint="remove it" if frames < 1 else "cut it",
        )
    return frames, rate


def read_sound(path: str | Path) -> Sound:
    """Read a WAV, FLAC, OGG or AIFF file of integers or floating-point numbers, with all its channels.

    Raises:
        UserError: when it cannot be read, is empty, or holds what is not a number.

    Warns:
        DoubtfulMeaning: when it ends too early, or is clipped.
    """
    path = expanded(path)
    sound_length(path)
    try:
        with soundfile.SoundFile(path) as file:
            wave = file.read(dtype="float32", always_2d=True)
            sound, told = Sound(wave, file.samplerate, file.subtype, file.format), file.extra_info
    except (soundfile.LibsndfileError, OSError, RuntimeError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not len(wave):  # the header promised some
        raise UserError(str(path), found="no sample behind its header", expected=_EXPECTED, hint="restore it")
    require_finite(wave, str(path))
    _doubt_end(path, told)
    _doubt_clipping(path, wave)
    return sound


def _doubt_end(path: Path, told: str) -> None:
    """A file that is shorter than its header says; a stream's header says as much as it can."""
    for said, there in _SHORT.findall(told):
        if int(there) < int(said) < _UNKNOWN:
            doubt(
                str(path),
                found=f"{there} of {said} bytes of samples",
                taken_as="a sound that ends where the file does",
                hint="restore it if it is cut short",
            )


def _doubt_clipping(path: Path, wave: Wave) -> None:
    """Full scale for several samples in a row, again and again."""
    full = np.abs(wave) >= _FULL
    runs = full[:-2] & full[1:-1] & full[2:]
    share = float(runs.mean()) if runs.size else 0.0
    if share > _CLIPPED:
        doubt(
            str(path),
            found=f"{share:.1%} of the samples at full scale, several in a row (clipping)",
            taken_as="the sound as it was",
            hint="record it at a lower level if it is not meant so",
        )


def require_finite(wave: np.ndarray, name: str) -> None:
    """Refuse what is not a number, or in other units than full scale.

    Raises:
        UserError: when there is such a sample.
    """
    wrong = int((~np.isfinite(wave)).sum())
    if wrong:
        raise UserError(name, found=f"{wrong} samples that are not finite", expected="numbers", hint="repair the sound")
    loudest = float(np.abs(wave).max(initial=0.0)) if wave.dtype.kind == "f" else 0.0
    if loudest > _LOUDEST:
        raise UserError(
            name,
            found=f"floating-point samples up to {loudest:g}",
            expected="samples in [-1, 1], full scale being 1",
            hint="divide them by full scale (32768 for 16 bits), or give them as integers",
        )


def write_sound(path: Path, sound: Sound) -> None:
    """Write a sound, complete or not at all; what lies beyond full scale is cut where the file holds integers.

    A file that is there is replaced. The sound has a rate.

    Raises:
        UserError: when it cannot be written.
    """
    rate = sound.rate or 44100
    subtype = sound.subtype if soundfile.check_format(sound.format, sound.subtype) else None
    coded = io.BytesIO()  # of a full disk libsndfile says "System error", and nothing where it is full at the end
    soundfile.write(coded, sound.wave, rate, subtype=subtype, format=sound.format)
    with replacing(path) as temporary:
        temporary.write_bytes(coded.getbuffer())


def laid_out(wave: Float32[np.ndarray, "N c"], layout: Literal["mono", "stereo"], name: str) -> Wave:
    """Mix all channels to one, or make or keep two.

    Raises:
        UserError: for more than two channels that are not to be mixed.

    Warns:
        DoubtfulMeaning: when mixing leaves nothing.
    """
    channels = wave.shape[1]
    if layout == "mono":
        mixed: np.ndarray = wave.mean(1, keepdims=True)
        if channels > 1 and np.square(mixed).mean() < _CANCELLED**2 * np.square(wave).mean():
            doubt(
                name,
                found=f"{channels} channels that cancel each other",
                taken_as="their mean, which is almost silent",
                hint="choose signals.layout: stereo, or split the file",
            )
        return mixed
    if channels > 2:
        raise UserError(
            name,
            found=f"{channels} channels",
            expected="one or two, as signals.layout is stereo",
            hint="mix them (signals.layout: mono), or split the file",
        )
    return wave if channels == 2 else np.repeat(wave, 2, 1)


def resampled(wave: Wave, rate: int | None, wanted: int | None) -> Float32[np.ndarray, "M d"]:
    """The same sound at another rate, by a polyphase filter; itself where one of the rates is not known."""
    if rate is None or wanted is None or rate == wanted:
        return wave
    common = gcd(rate, wanted)
    out: np.ndarray = resample_poly(wave, wanted // common, rate // common, axis=0).astype(np.float32)
    return out


def resampled_length(length: int, rate: int, wanted: int | None) -> int:
    """How many samples `resampled` makes of so many."""
    return length if wanted is None else -(-length * wanted // rate)


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = str(getattr(error, "error_string", None) or getattr(error, "strerror", None) or error)
    return UserError(
        str(path), found=f"that it cannot be read ({reason.strip().rstrip('.')})", expected=_EXPECTED, hint="restore it"
    )
