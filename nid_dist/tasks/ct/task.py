"""CT: images that a dictionary learns from, and whose successors it will know from scans of few views alone."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nid_dist.coding.method import Method
from nid_dist.config.schema import Config
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.data.sampler import batch_ids
from nid_dist.device import to_device
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.fitting import fit_signals
from nid_dist.measurements.back_projection import BackProjection
from nid_dist.measurements.noise import Dose
from nid_dist.measurements.sampling import Sampling
from nid_dist.model import Model
from nid_dist.parallel.world import World
from nid_dist.samples import Batch, Samples
from nid_dist.tasks.ahead import Ahead
from nid_dist.tasks.base import Picture, draw, split_to_evaluate
from nid_dist.tasks.ct.config import Tomography
from nid_dist.tasks.ct.reconstruction import Reconstructor, as_gate_input
from nid_dist.tasks.ct.scans import Scans, doses, finer_image, scannable
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.sources import list_images
from nid_dist.tasks.images.task import ImageTask, prepared

_SIGNALS = 8  # that an evaluation reconstructs
# Independent draws: which scan a step's gate sees; and the noise of each.
_SCAN, _NOISE = range(2)


class CTTask(ImageTask):
    """Images with their scans: the dictionary learns from the images, the gate to read scans of them.

    Raises:
        UserError: when the images cannot be listed, or do not fit the configuration.
    """

    def __init__(self, config: Config) -> None:
        assert config.tomography is not None
        section = config.signals_of(ImagesSection)
        refs = {split: [scannable(ref) for ref in images] for split, images in list_images(section).items()}
        super().__init__(config, refs)
        self.tomography: Tomography = config.tomography
        self.scans = {split: Scans(images, section, self.tomography) for split, images in refs.items()}
        self._back_projections: dict[int, BackProjection] = {}
        self._measured = Ahead(self._measure, config.optimizer.accumulation, config.training.steps)
        self._seen = False  # whether a gate looks at scans in this phase of the training

    def sample(self, count: int) -> Samples:
        """Training signals for initial values and prior, on a grid that is finer where the configuration says so."""
        times = self.tomography.finer
        if times == 1:
            return super().sample(count)
        refs = self.refs["train"]
        ids = batch_ids(self.config.training.seed, 0, min(count, len(refs)), len(refs)).tolist()
        images = torch.stack([torch.from_numpy(finer_image(refs[index], self.section, times)) for index in ids])
        return Samples(coordinate_grid(tuple(images.shape[1:])), images.flatten(1)[..., None])

    def batch(self, step: int, micro: int, world: World) -> Batch:
        """This rank's part of a micro-batch; the gate sees a scan of each signal, of drawn views and dose."""
        batch = super().batch(step, micro, world)
        if self.config.coding.gate.kind == "none":
            return batch
        return replace(batch, make_gate_input=partial(self._gate_input, step, micro, world))

    def prefetch(self, step: int, world: World) -> None:
        """Start to read this rank's images of a step in the background, and its scans where a gate sees them."""
        super().prefetch(step, world)
        if self._seen:
            self._measured.prefetch(step, world)

    def _scan_of(self, step: int) -> tuple[int, Dose]:
        """Views and dose of a step's scans."""
        generator = np.random.default_rng(np.random.SeedSequence([self.config.training.seed, step, _SCAN]))
        views = int(generator.choice(self.tomography.views))
        return views, _pick(doses(self.tomography), generator)

    def _measure(self, step: int, micro: int, world: World) -> Float[Tensor, "T M"]:
        """Scans of the signals of a micro-batch, with noise."""
        chosen, scans = draw(self.config, step, micro, world, len(self.signals)), self.scans["train"]
        views, dose = self._scan_of(step)
        sinograms = [
            dose.measure(scans.sinogram(index, views), np.random.default_rng([seed, _NOISE]))
            for index, seed in zip(chosen.ids.tolist(), chosen.noise_seeds.tolist(), strict=True)
        ]
        return torch.from_numpy(np.stack(sinograms))

    def _gate_input(self, step: int, micro: int, world: World) -> Float[Tensor, "T C 1"]:
        self._seen, (views, _) = True, self._scan_of(step)
        if views not in self._back_projections:
            geometry = self.scans["train"].geometry(views)
            self._back_projections[views] = BackProjection(geometry, self.grid_shape[0])
        measured = to_device(self._measured.take(step, micro, world), world.device)
        return as_gate_input(self._back_projections[views](measured))

    def evaluate(self, model: Model, world: World) -> dict[str, float]:
        """Mean PSNR over a few signals: of OMP on the image (`val/db_omp`), and from few views (`val/db_map_8`)."""
        split = split_to_evaluate(self.refs)
        refs = self.refs[split][:_SIGNALS]
        methods = methods_of(model, self.config.coding.blocks)
        whole = Method("omp", self.config.coding.blocks)
        labels = [whole.label]
        labels += [f"{method.label}_{views}" for views in self.tomography.evaluated for method in methods]
        far = torch.zeros(len(refs), dtype=torch.float64)
        scores = torch.zeros(len(refs), len(labels), dtype=torch.float64)
        own = list(range(world.rank, len(refs), world.size))

        def measure() -> None:
            images = [prepared(refs[index], self.config) for index in own]
            if not images:
                return
            values = torch.from_numpy(np.stack(images)).flatten(1, 2).to(model.device)
            code = fit_signals(model, Sampling(model.coords), values, [whole])[whole.label].code
            for place, index in enumerate(own):
                far[index] = model.mahalanobis(code.rows(slice(place, place + 1))) or 0.0
            found = [model.dictionary(code, model.coords).clamp(0, 1).cpu().numpy()]
            for views in self.tomography.evaluated:
                sinograms = np.stack([self.scans[split].sinogram(index, views) for index in own])
                reconstructor = Reconstructor(model, self.scans[split].geometry(views), Dose())
                fits = reconstructor.solve(sinograms, methods)
                found += [reconstructor.render(fits[method.label]) for method in methods]
            for column, pictures in enumerate(found):
                for place, index in enumerate(own):
                    scores[index, column] = psnr(pictures[place].reshape(images[place].shape), images[place])

        with torch.no_grad():
            world.raise_on_all_ranks(measure)
        mean = world.all_reduce_sum(scores).mean(0).tolist()
        figures = {f"{split}/db_{label}": value for label, value in zip(labels, mean, strict=True)}
        mahalanobis = world.all_reduce_sum(far).mean().item()
        return figures | ({} if model.prior is None else {f"{split}/mahalanobis": mahalanobis})

    def pictures(self, model: Model) -> dict[str, Picture]:
        """A signal, its back-projection from few views, and its reconstructions by each method."""
        split, views = split_to_evaluate(self.refs), self.tomography.evaluated[-1]
        ref, methods = self.refs[split][0], methods_of(model, self.config.coding.blocks)
        sinogram = self.scans[split].sinogram(0, views)[None]
        reconstructor = Reconstructor(model, self.scans[split].geometry(views), Dose())
        fits = reconstructor.solve(sinogram, methods)
        shown = [prepared(ref, self.config), reconstructor.back_projection(sinogram)[0][..., None].clip(0, 1)]
        shown += [reconstructor.render(fits[method.label])[0] for method in methods]
        return {f"{split}/{ref.name}_{views}_views": np.concatenate(shown, 1).astype(np.float32)}


def methods_of(model: Model, blocks: int) -> list[Method]:
    """The methods that a running training is measured by, as far as gate and prior are there."""
    methods = [Method("init"), Method("ridge")] if model.gate_reads_signals else []
    return [*methods, Method("omp", blocks), *([Method("map", blocks)] if model.prior is not None else [])]


def _pick(choices: list[Dose], generator: np.random.Generator) -> Dose:
    return choices[int(generator.integers(len(choices)))]
