"""Every configuration that is shipped trains."""

from pathlib import Path

import pytest

from nid_dist.cli.train import train
from nid_dist.config import load_config
from tests.tiny import write_pictures

CONFIGS = sorted(Path(__file__).parents[1].glob("configs/*.yaml"))
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
    if name == "quickstart":
        return ["signals.limit=1", "signals.short_side=32"]
    return [f"signals.path={write_pictures(folder, tuple(f'{i}.png' for i in range(40)))}"]


def test_all_are_found() -> None:
    assert {path.stem for path in CONFIGS} >= {"quickstart", "images", "whole_images", "celeba", "celeba_reference"}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_two_steps(config: Path, tmp_path: Path) -> None:
    small = [f"logging.run_dir={tmp_path / 'run'}", "training.steps=2", "dictionary.experts=256", "dictionary.width=16"]
    support = min(16, load_config(config).coding.support)
    own = [*sources(config.stem, tmp_path / "images"), f"coding.support={support}", "coding.gate.width=8"]
    trainer, figures = train(load_config(config, [*small, *SMALL, *own]))
    assert trainer.step == 2 and figures and (tmp_path / "run" / "checkpoints" / "step-00000002").is_dir()
