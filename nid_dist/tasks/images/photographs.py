"""What comparisons of photographs share: the images, and networks that are fitted to each."""

from collections.abc import Iterator
from pathlib import Path

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from nid_dist.baselines.config import Inr, load_baseline
from nid_dist.baselines.inr import Baseline
from nid_dist.baselines.meta import Weights, learned_start
from nid_dist.config import Config
from nid_dist.config.section import PathText, PositiveFloat, PositiveInt
from nid_dist.coordinate_grid import coordinate_grid
from nid_dist.data.files import named_files
from nid_dist.data.reading import EXTENSIONS, read_image
from nid_dist.data.sampler import batch_ids, symmetries
from nid_dist.errors import UserError
from nid_dist.tasks.comparison import Comparison, Request
from nid_dist.tasks.images.config import ImagesSection
from nid_dist.tasks.images.fit import ImageArray
from nid_dist.tasks.images.signals import ImageSignals
from nid_dist.tasks.images.sources import list_images

_META_SIDE = 128
"""Side of the squares of training photographs that an initialisation is learned from; it serves any side."""


class PhotographComparison(Comparison):
    """The keys of a comparison on photographs."""

    run_dir: PathText = "runs/compare_images"
    limit: PositiveInt = Field(3, description="images at most, of the first dictionary's test split or of one's own")
    baselines: list[str] = Field([], description="configurations of networks, relative to this file")
    seconds: PositiveFloat = Field(60.0, description="that a network may fit an image")
    lpips: bool | None = Field(None, description="whether to measure it; null: where its weights are found")

    def networks(self, request: Request, training: Config) -> Iterator[tuple[str, Baseline, bool]]:
        """The networks: their names, how each is fitted, and whether its start is learned.

        Raises:
            UserError: when a configuration or a learned start cannot be read.
        """
        for path in map(request.beside, self.baselines):
            network = load_baseline(path)
            if network.meta is None:
                yield path.stem.upper(), Baseline(network), False
            else:
                start = meta_start(network, training, Path(self.run_dir) / f"{path.stem}.safetensors")
                yield path.stem.capitalize(), Baseline(network, start), True


def photographs(request: Request, training: Config, limit: int) -> tuple[list[tuple[str, ImageArray]], dict[str, str]]:
    """The images to compare on, whole, by name: the user's own, or without them those of the dictionary's test split.

    The second of the two says why others are not among them.

    Raises:
        UserError: when there is none.
    """
    if request.inputs is None:
        found = [(ref.name, ref.load()) for ref in list_images(training.signals_of(ImagesSection))["test"][:limit]]
        if not found:
            raise UserError(
                "signals.test of the dictionary",
                found="no image",
                expected="some to compare on",
                hint="keep some apart, or name images of your own",
            )
        return found, {}
    images, failed, section = [], {}, training.signals_of(ImagesSection)
    for name, path in named_files(request.inputs, EXTENSIONS)[:limit]:
        try:
            images.append((name, read_image(path, section.colour, section.bits)))
        except UserError as error:
            failed[name] = str(error)
    return images, failed


def meta_start(network: Inr, training: Config, path: Path) -> Weights:
    """The initialisation of a network, learned from a dictionary's training photographs, or found again at `path`."""
    side = _META_SIDE
    signals = training.signals_of(ImagesSection).model_copy(
        update={"patch": side, "stride": side // 4, "size": None, "crop": None}
    )
    short = max(signals.short_side or 0, side * 3 // 2)
    signals = signals.model_copy(update={"short_side": short})
    channels = signals.channels
    squares = ImageSignals(list_images(signals)["train"], signals, channels=channels)

    def drawn(step: int) -> Float[Tensor, "T C d"]:
        assert network.meta is not None
        ids = batch_ids(network.seed, step, network.meta.batch, len(squares))
        return squares.values(ids, symmetries(network.seed, step, network.meta.batch))

    return learned_start(network, coordinate_grid((side, side)), channels, drawn, path)
