"""Sounds made of numbers: plucked strings, chirps and vowels, for development, and to begin with."""

import numpy as np
from jaxtyping import Float64
from scipy.signal import lfilter

from nid_dist.tasks.audio.reading import Sound

RATE = 16000
KINDS = ("pluck", "chirp", "vowel")
# Resonances of a vocal tract, in Hz: a, e, i, o, u (Peterson and Barney 1952, men).
_FORMANTS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))
_BANDWIDTHS = (80, 100, 120)

Samples = Float64[np.ndarray, "N"]


def sound_names(count: int) -> list[str]:
    """Of so many sounds, the kinds in turn."""
    return [f"{KINDS[index % len(KINDS)]}-{index:05d}" for index in range(count)]


def named_sound(name: str, seed: int, seconds: float, rate: int = RATE) -> Sound:
    """A sound of `sound_names`, which depends on the seed and its name alone; the rate is samples per second."""
    kind, _, index = name.partition("-")
    generator = np.random.default_rng(np.random.SeedSequence([seed, int(index)]))
    wave = {"pluck": _pluck, "chirp": _chirp, "vowel": _vowel}[kind](max(1, round(seconds * rate)), rate, generator)
    wave *= generator.uniform(0.3, 0.9) / max(np.abs(wave).max(), 1e-12)
    return Sound(wave.astype(np.float32)[:, None], rate, "PCM_16")


def _pluck(length: int, rate: int, generator: np.random.Generator) -> Samples:
    """Notes of a string (Karplus and Strong 1983): noise goes round a delay line that averages its neighbours."""
    wave, notes = np.zeros(length), int(generator.integers(2, 6))
    for start in np.sort(generator.integers(0, max(1, length * 3 // 4), notes)):
        period = max(2, round(rate / (110 * 2 ** (generator.integers(0, 25) / 12))))
        burst = np.zeros(length - start)
        burst[:period] = generator.uniform(-1, 1, period)[: length - start]
        loop = np.zeros(period + 2)
        loop[0], loop[period], loop[period + 1] = 1, -0.498, -0.498
        wave[start:] += generator.uniform(0.4, 1) * lfilter([1.0], loop, burst)
    return wave


def _chirp(length: int, rate: int, generator: np.random.Generator) -> Samples:
    """A tone with overtones whose pitch glides, swelling and fading."""
    low, high = np.sort(generator.uniform(np.log(80), np.log(rate / 8), 2))
    if generator.random() < 0.5:
        low, high = high, low
    phase = 2 * np.pi * np.cumsum(np.exp(np.linspace(low, high, length))) / rate
    strengths = generator.uniform(0, 1, 3) / np.arange(1, 4)
    tones = sum(strength * np.sin((k + 1) * phase) for k, strength in enumerate(strengths))
    return np.asarray(tones * np.sin(np.pi * np.linspace(0, 1, length)) ** generator.uniform(0.3, 1.5))


def _vowel(length: int, rate: int, generator: np.random.Generator) -> Samples:
    """Pulses of a voice through the resonances of a mouth, which changes half way, with a little breath."""
    pitch = generator.uniform(90, 220) * (1 + 0.03 * np.sin(2 * np.pi * 5 * np.arange(length) / rate))
    pulses = np.diff(np.floor(np.cumsum(pitch) / rate), prepend=0.0) + 0.01 * generator.normal(size=length)
    wave, half = np.zeros(length), length // 2
    for part in (slice(0, half), slice(half, length)):
        voice = pulses[part]
        for formant, width in zip(_FORMANTS[int(generator.integers(5))], _BANDWIDTHS, strict=True):
            radius = np.exp(-np.pi * width / rate)
            turn = -2 * radius * np.cos(2 * np.pi * formant * generator.uniform(0.95, 1.05) / rate)
            voice = lfilter([1 + turn + radius**2], [1, turn, radius**2], voice)
        wave[part] = voice
    return wave
