"""Sounds as a person looks at them: how loud each frequency is at each time."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.signal import stft

from nid_dist.evaluation.pictures import TEXT_SIZE, draw_title, save_figure

_LEVELS = 80  # dB that are shown, from the loudest down
_COLUMNS = 900  # of the picture: more than that of a long sound are not told apart


def spectrogram(wave: Float[np.ndarray, "N d"], length: int = 512) -> Float[np.ndarray, "F B"]:
    """Levels over frequency (low ones first) and time, of the channels' mean, in dB relative to full scale.

    A transformed stretch has `length` samples, of which the next one shares three quarters.
    """
    mono = wave.mean(1, dtype=np.float64)
    length = max(2, min(length, len(mono)))
    spectrum = stft(mono, nperseg=length, noverlap=length - max(1, length // 4))[2]
    levels: np.ndarray = 20 * np.log10(np.maximum(np.abs(spectrum), 1e-6))
    step = -(-levels.shape[1] // _COLUMNS)
    return levels[:, :: max(1, step)]


def spectrograms(
    path: Path,
    wave: Float[np.ndarray, "N d"],
    found: Mapping[str, Float[np.ndarray, "N d"]],
    rate: int,
    captions: Mapping[str, str],
    title: str,
) -> None:
    """Save a sound's spectrogram, and below it those of its reconstructions, each beside that of its error.

    Reconstructions and what to write beside their names are by method.

    Raises:
        UserError: the file cannot be written.
    """
    top = float(spectrogram(wave).max())
    figure = Figure(figsize=(9.0, 1.9 * (1 + len(found)) + 0.6), layout="constrained")
    axes = figure.subplots(1 + len(found), 2, squeeze=False, sharex=True, sharey=True)
    extent = (0.0, len(wave) / rate, 0.0, rate / 2000)
    panels = [(axes[0, 0], wave, "original")]
    for line, (label, values) in enumerate(found.items(), start=1):
        panels.append((axes[line, 0], values, f"{label}: {captions[label]}"))
        panels.append((axes[line, 1], values - wave, f"{label}: error"))
    for axis, values, caption in panels:
        drawn = axis.imshow(
            spectrogram(values),
            origin="lower",
            aspect="auto",
            extent=extent,
            cmap="magma",
            vmin=top - _LEVELS,
            vmax=top,
            interpolation="nearest",
        )
        axis.set_title(caption, fontsize=TEXT_SIZE, pad=3, parse_math=False)
        axis.tick_params(labelsize=TEXT_SIZE - 1)
    axes[0, 1].axis("off")
    for axis in axes[-1]:
        axis.set_xlabel("seconds", fontsize=TEXT_SIZE)
    for axis in axes[:, 0]:
        axis.set_ylabel("kHz", fontsize=TEXT_SIZE)
    bar = figure.colorbar(drawn, cax=axes[0, 1].inset_axes((0.05, 0.55, 0.9, 0.12)), orientation="horizontal")
    bar.set_label("dB relative to full scale", fontsize=TEXT_SIZE)
    bar.ax.tick_params(labelsize=TEXT_SIZE - 1)
    draw_title(figure, title)
    save_figure(path, figure)
