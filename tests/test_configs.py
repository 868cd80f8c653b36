"""Every configuration that is shipped trains."""

import gc
import math
import shutil
from pathlib import Path

import pytest

from nid_dist.comparison.factory import load_comparison
from nid_dist.config import load_config
from nid_dist.parallel.launch.launching import Launch
from nid_dist.training.run import train
from tests.parallel.processes import spawn
from tests.tiny import write_pictures

ALL = sorted(Path(__file__).parents[1].glob("configs/*.yaml"))
CONFIGS = [path for path in ALL if not path.stem.startswith("compare_")]
COMPARISONS = [path for path in ALL if path not in CONFIGS]
LARGE = sorted(Path(__file__).parents[1].glob("configs/large/*.yaml"))
SIZES = (4096, 16384, 65536)
SMALL = ["training.batch=4", "logging.tensorboard=false", "logging.progress=false", "dictionary.encoding.features=16"]


def sources(name: str, folder: Path) -> list[str]:
    """Little pictures in the layout that a configuration expects."""
    if name.startswith("celeba"):
        names = tuple(f"{number:06d}.png" for number in range(1, 7))
        write_pictures(folder / "img_align_celeba", names)
        for path in list((folder / "img_align_celeba").iterdir()):
            path.rename(path.with_suffix(".jpg"))
        splits = "".join(f"{Path(n).stem}.jpg {i % 3}\n" for i, n in enumerate(names))
        (folder / "list_eval_partition.txt").write_text(splits)
        return [f"signals.path={folder}", "signals.crop=20", "signals.size=32"]
    if name == "sdf_shapenet":
        furniture = ["signals.path=null", "signals.augment=false", "signals.shapes=12", "signals.lattice=6"]
        return [*furniture, "signals.procedural=0", "training.coordinates=64", "coding.prior_signals=8"]
    if name == "ct_shepp_logan":
        return ["signals.phantoms=30", "signals.size=17"]
    if name == "audio":
        return ["signals.sounds=20", "signals.seconds=0.1"]
    if name == "quickstart":
        return ["signals.limit=1", "signals.short_side=32"]
    if name == "video_rpca":
        frames = write_pictures(folder, ("0.png", "1.png", "2.png"))
        return [f"signals.path={frames}", "signals.short_side=24", "signals.video.stop=3"]
    return [f"signals.path={write_pictures(folder, tuple(f'{i}.png' for i in range(40)))}"]


def test_all_are_found() -> None:
    assert {path.stem for path in CONFIGS} >= {"quickstart", "images", "whole_images", "celeba", "celeba_reference"}
    assert any(path.stem == "ct_shepp_logan" for path in CONFIGS)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_two_steps(config: Path, tmp_path: Path) -> None:
    small = [f"logging.run_dir={tmp_path / 'run'}", "training.steps=2", "dictionary.experts=256", "dictionary.width=16"]
    support = min(16, load_config(config).coding.support)
    own = [*sources(config.stem, tmp_path / "images"), f"coding.support={support}", "coding.gate.width=8"]
    trainer = train(load_config(config, [*small, *SMALL, *own]))
    assert trainer.step == 2 and trainer.figures and (tmp_path / "run" / "checkpoints" / "step-00000002").is_dir()


@pytest.mark.parametrize("config", COMPARISONS, ids=lambda path: path.stem)
def test_comparisons_load(config: Path) -> None:
    loaded = load_comparison(config)
    named = config.stem.removeprefix("compare_").removesuffix("_volume")
    assert loaded.task == {"furniture": "shapes"}.get(named, named)


def test_all_large_ones_are_found() -> None:
    assert {path.stem for path in LARGE} == {f"{name}_{n}" for name in ("images", "video", "sdf") for n in SIZES}


@pytest.mark.parametrize("config", LARGE, ids=lambda path: path.stem)
def test_large_ones_load(config: Path) -> None:
    loaded = load_config(config)
    assert config.stem.endswith(f"_{loaded.dictionary.experts}") and loaded.coding.support in (128, 256)
    assert loaded.parallel.engine == "auto" and loaded.parallel.expert_parallel_size is None
    # Each has a run folder of its own.
    assert loaded.logging.run_dir == f"runs/large/{config.stem}"


def test_two_steps_of_large_ones_on_four_processes(tmp_path: Path) -> None:
    """With all their experts, and all else small; in the same processes, since these take the longest to start."""
    frames = write_pictures(tmp_path / "images", tuple(f"{number:02d}.png" for number in range(40)))
    spawn(train_large, 4, frames, tmp_path)
    for config in LARGE:
        assert (tmp_path / config.stem / "checkpoints" / "step-00000002").is_dir()
        shutil.rmtree(tmp_path / config.stem)  # half a gigabyte in all, which pytest would keep for a while


def train_large(rank: int, world: int, port: int, frames: Path, folder: Path) -> None:
    small = ["training.steps=2", "training.batch=8", "training.coordinates=64", "dictionary.width=16"]
    small += ["dictionary.encoding.features=16", "coding.gate.width=4", "parallel.timeout_seconds=120"]
    small += ["coding.prior_signals=8"]
    own = {
        "images": [f"signals.path={frames}", "signals.patch=8", "signals.val=[00.png]", "signals.test=[01.png]"],
        "video": [f"signals.path={frames}", "signals.video.size=[12, 12]"],
        "sdf": ["signals.shapes=64", "signals.lattice=6", "signals.val=[chair-00000]", "signals.test=[]"],
    }
    quiet = ["logging.tensorboard=false", "logging.progress=false", "logging.pictures_every=0"]
    for place, path in enumerate(LARGE):
        name, _, experts = path.stem.partition("_")
        config = load_config(path, [*small, *own[name], *quiet, f"logging.run_dir={folder / path.stem}"])
        launch = Launch("torchrun", rank, world, rank, world, "127.0.0.1", port + place)
        trainer = train(config, launch=launch)
        assert trainer.step == 2 and trainer.figures and all(math.isfinite(value) for value in trainer.figures.values())
        assert trainer.world.topology.expert_parallel_size == world
        held = trainer.model.dictionary.experts.rows
        assert held.shape == (int(experts) // world, trainer.model.channels * 17)
        assert not held.isnan().any()
        del trainer, held
        gc.collect()
