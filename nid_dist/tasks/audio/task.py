"""Sound regression: windows of sounds as signals, on a grid along one axis."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from nid_dist.config.schema import Config
from nid_dist.data.resident import Constant
from nid_dist.data.sampler import batch_ids
from nid_dist.model import Model
from nid_dist.parallel.exchange.exchange import Exchange
from nid_dist.parallel.world import World
from nid_dist.samples import Batch, Samples
from nid_dist.tasks.audio.config import AudioSection
from nid_dist.tasks.audio.fit import fit_sound
from nid_dist.tasks.audio.measures import snr
from nid_dist.tasks.audio.pictures import spectrogram
from nid_dist.tasks.audio.signals import AudioSignals, SoundRef, list_sounds, prepared
from nid_dist.tasks.base import Picture, draw, grid_prior_samples, methods_of, split_to_evaluate

_SOUNDS = 8  # that an evaluation fits
_SAMPLES = 2**15  # of each, from its middle

_CPU = torch.device("cpu")


class AudioTask:
    """The sounds of a configuration, kept apart as train, val and test.

    Raises:
        UserError: when the sounds cannot be listed or measured, or do not fit the configuration.
    """

    def __init__(self, config: Config) -> None:
        self.config, self.section = config, config.signals_of(AudioSection)
        self.channels, self.grid_shape = self.section.channels, self.section.grid_shape
        self.refs = list_sounds(self.section)
        self.signals = AudioSignals(self.refs["train"], self.section)
        self._coords = Constant(self.signals.coords)

    def model(self, exchange: Exchange | None = None) -> Model:
        """A new model for these sounds, all its values from the seed."""
        return Model(
            self.config,
            channels=self.channels,
            grid_shape=self.grid_shape,
            signals=len(self.signals),
            exchange=exchange,
        )

    def batch(self, step: int, micro: int, world: World) -> Batch:
        """This rank's part of a micro-batch, which depends on (seed, step, micro) only."""
        chosen = draw(self.config, step, micro, world, len(self.signals))
        return chosen.batch(self._samples(chosen.ids, world.device))

    def prefetch(self, step: int, world: World) -> None:
        """Sounds are read once and kept."""

    def sample(self, count: int) -> Samples:
        """Training windows for data-dependent initial values."""
        return self._samples(batch_ids(self.config.training.seed, 0, min(count, len(self.signals)), len(self.signals)))

    def prior_samples(self, count: int, world: World) -> Iterator[tuple[Samples, int]]:
        """This rank's part of training windows, from whose codes the prior is learned."""
        return grid_prior_samples(self, count, world)

    def evaluate(self, model: Model, world: World) -> dict[str, float]:
        """Signal-to-noise ratio over the middles of a few sounds, by method: `val/snr_omp8` and so on, in dB."""
        split = split_to_evaluate(self.refs)
        methods, refs = methods_of(model, self.config.coding.blocks), self.refs[split][:_SOUNDS]
        labels = [f"snr_{method.label}" for method in methods] + ["mahalanobis"] * (model.prior is not None)
        scores = torch.zeros(len(refs), len(labels), dtype=torch.float64)

        def measure() -> None:
            for index in range(world.rank, len(refs), world.size):
                wave = self._middle(refs[index])
                found = fit_sound(model, wave, methods)
                figures = {f"snr_{label}": snr(fit.render(), wave) or 0.0 for label, fit in found.items()}
                figures["mahalanobis"] = model.mahalanobis(found[methods[-1].label].code) or 0.0
                scores[index] = torch.tensor([figures[label] for label in labels], dtype=torch.float64)

        world.raise_on_all_ranks(measure)
        mean = world.all_reduce_sum(scores).mean(0).tolist()
        return {f"{split}/{label}": value for label, value in zip(labels, mean, strict=True)}

    def pictures(self, model: Model) -> dict[str, Picture]:
        """Spectrograms of a sound, of its reconstruction by OMP and of the error, one below the other."""
        split = split_to_evaluate(self.refs)
        ref = self.refs[split][0]
        wave = self._middle(ref)
        method = methods_of(model, self.config.coding.blocks)[-1]
        found = fit_sound(model, wave, [method])[method.label].render()
        shown = [spectrogram(part) for part in (wave, found, found - wave)]
        # From 80 dB below the loudest, black, to white; high frequencies above.
        grey = [np.clip(1 + (levels - shown[0].max()) / 80, 0, 1)[::-1] for levels in shown]
        return {f"{split}/{ref.name}": np.concatenate(grey)[..., None].astype(np.float32)}

    def _samples(self, ids: Int[Tensor, "T"], device: torch.device = _CPU) -> Samples:
        return Samples(self._coords.on(device), self.signals.values(ids, device))

    def _middle(self, ref: SoundRef) -> np.ndarray:
        wave = prepared(ref.load(), self.section, ref.name)
        first = max(0, len(wave) - _SAMPLES) // 2
        return wave[first : first + _SAMPLES]
