"""Fits of sounds of any length: in windows, blended where they overlap, and rendered at any rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from nid_dist.code import save_codes, stored_bytes
from nid_dist.coding.fit import Fit
from nid_dist.coding.judgement import Judgement, from_db
from nid_dist.coding.method import Method
from nid_dist.data.tiles import cover_axis, tile_samples, tile_starts
from nid_dist.device import to_device
from nid_dist.errors import UserError, doubt
from nid_dist.files import expanded, write_json
from nid_dist.fitting import fit_signals
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.tasks.audio.config import AudioSection
from nid_dist.tasks.audio.measures import best_cosines, snr
from nid_dist.tasks.audio.reading import LONGEST, Sound, Wave, laid_out, resampled, write_sound
from nid_dist.tasks.audio.signals import to_values, to_wave
from nid_dist.tasks.audio.synthetic import RATE


@dataclass(frozen=True, eq=False)
class AudioFit(Fit):
    """A sound as a method represents it; its codes are those of its windows."""

    model: Model
    sound: Sound  # the input, in the dictionary's layout, at its own rate
    length: int  # samples of a channel at the dictionary's rate
    stride: int  # step between windows

    @cached_property
    def snr(self) -> float | None:
        """Signal-to-noise ratio of `render()` against the input, in dB; None for silence."""
        return snr(self.render(), self.sound.wave)

    @property
    def judgement(self) -> Judgement:
        """Relative to the sound's own level, against what validation sounds had."""
        found, figures = self.snr, self.model.validation
        similar = [name for name in figures if "/snr_omp" in name]
        expected = from_db(figures, [f"val/snr_{self.method.label}", *similar])
        distance = self.model.relative_distance(self.code)
        return Judgement(0.0 if found is None else 10 ** (-found / 20), expected, distance=distance)

    def render(self, length: int | None = None) -> Wave:
        """Evaluate f at any rate, of so many samples a channel (None: the input's): full scale is 1; nothing is cut.

        Raises:
            UserError: for a length that a sound cannot have.
        """
        wanted = len(self.sound.wave) if length is None else length
        if not 1 <= wanted <= LONGEST:
            raise UserError("the length", found=str(wanted), expected=f"1 to {LONGEST} samples", hint="choose another")
        starts = tile_starts(self.length, self.window, self.stride)
        cover = cover_axis(self.length, self.window, starts, wanted)
        places = cover.coordinate[0] if cover.shared else cover.coordinate
        values = self.model.evaluate(self.code, places[..., None])
        # The middle of [0, 1] is silence, so what is blended is pressure.
        return to_wave(cover.assemble(values).cpu().numpy())

    @property
    def window(self) -> int:
        """Samples of a signal."""
        return self.model.grid_shape[0]

    def figures(self, wave: Wave) -> dict[str, Any]:
        """Quality, length and time of the codes, of a sound as rendered: numbers for a table or a file."""
        return {
            "snr_db": snr(wave, self.sound.wave),
            "nonzeros_per_signal": int((self.code.values != 0).sum(1).max()),
            "bytes_per_signal": stored_bytes(self.code, self.model.dictionary.num_experts),
            "ms_per_signal": 1e3 * self.seconds / self.code.signals,
        }

    def write(self, folder: str | Path, **facts: Any) -> dict[str, Any]:
        """Write `codes.safetensors`, the sound as a file of the input's kind, and `results.json`."""
        folder, wave, label = expanded(folder), self.render(), self.method.label
        figures = {**facts, "solver": label, **self.figures(wave)}
        write_codes(folder, {label: self}, **facts)
        self.write_wave(folder / label, wave)
        write_json(folder / "results.json", figures)
        return figures

    def write_wave(self, path: Path, wave: Wave, scale: float = 1.0) -> None:
        """Write a sound with the input's coding, at `scale` times its rate, to a path without its ending.

        Raises:
            UserError: when it cannot be written.
        """
        rate = None if self.sound.rate is None else max(1, round(scale * self.sound.rate))
        file = path.with_name(f"{path.name}.{self.sound.format.lower()}")
        write_sound(file, Sound(wave, rate, self.sound.subtype, self.sound.format))


def write_codes(folder: Path, fits: Mapping[str, AudioFit], **facts: Any) -> None:
    """Write `codes.safetensors`: codes by several methods, with what it takes to make the sound of them."""
    one = next(iter(fits.values()))
    facts |= {"length": one.length, "rate": one.sound.rate, "window": one.window, "stride": one.stride}
    codes = {label: fit.code for label, fit in fits.items()}
    save_codes(folder / "codes.safetensors", codes, one.model.dictionary.num_experts, facts)


def require_stride(stride: int | None, window: int) -> None:
    """Refuse a step between windows that leaves samples out.

    Raises:
        UserError: saying which there may be.
    """
    if stride is not None and not 1 <= stride <= window:
        raise UserError("stride", found=str(stride), expected=f"1 to {window}", hint="choose such a number")


def fit_sound(
    model: Model, sound: Sound | Wave, methods: Sequence[Method], stride: int | None = None, name: str = "the sound"
) -> dict[str, AudioFit]:
    """Represent a sound of any length by each method: fits by the methods' labels, to be rendered.

    Args:
        sound: with its rate, or a wave [N, d] at the dictionary's.
        stride: step between windows; None: half a window. Overlapping windows are blended.
        name: of the sound, for messages.

    Raises:
        UserError: for a dictionary of other signals, a sound of other channels than it knows, or a stride or method
            that does not fit it.
    """
    section = model.config.signals_of(AudioSection)
    window = section.window
    require_stride(stride, window)
    step = stride or window // 2
    given = sound if isinstance(sound, Sound) else Sound(sound, section.rate)
    given = Sound(laid_out(given.wave, section.layout, name), given.rate, given.subtype, given.format)
    if section.rate is None and section.path is None and given.rate not in (None, RATE):
        doubt(
            name,
            found=f"{given.rate} samples per second",
            taken_as=f"a sound of {RATE}, at which the dictionary was trained",
            hint="resample it, or train with signals.rate",
        )
    values = torch.from_numpy(to_values(resampled(given.wave, given.rate, section.rate)))
    windows = values[tile_samples(tile_starts(len(values), window, step), window, len(values))]
    solutions = fit_signals(model, Sampling(model.coords), to_device(windows, model.device), methods)
    whole = model.unsharded()
    return {
        method.label: AudioFit(method, solutions[method.label], whole, given, len(values), step) for method in methods
    }


def cosine_snr(fit: AudioFit) -> float | None:
    """The signal-to-noise ratio (dB; None for silence) of the discrete cosine transform, blended as `fit` is.

    It has k coefficients and a mean per window.
    """
    wave, starts = fit.sound.wave, tile_starts(len(fit.sound.wave), fit.window, fit.stride)
    windows = wave[tile_samples(starts, fit.window, len(wave)).numpy()]
    kept = torch.from_numpy(best_cosines(windows, fit.model.support))
    return snr(cover_axis(len(wave), fit.window, starts, len(wave)).assemble(kept).numpy(), wave)
