"""`quality`: dB on the held-out photograph after a fixed time of training, for each training mode."""

import tempfile
from typing import Any

from nid_dist.benchmarks.harness import QUIET
from nid_dist.coding.method import Method
from nid_dist.config import Config, load_config
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.evaluation.report import Column, Table
from nid_dist.tasks.images.fit import fit_image
from nid_dist.tasks.images.task import ImageTask
from nid_dist.training.run import train
from nid_dist.training.trainer import Trainer

CONFIG = "quickstart"
_UNROLLED = "coding.gate={kind: unrolled}"
MODES = {
    "gate": ["coding.phases=[{mode: gate}]", _UNROLLED, "optimizer.lr=1e-3", "optimizer.gate_lr=1e-3"],
    "solve": ["coding.phases=[{mode: solve}]"],
    "schedule": ["coding.phases=[{mode: solve, share: 0.75}, {mode: distill, share: 0.25}]", _UNROLLED],
}
_COLUMNS = [
    Column("mode"),
    Column("training", "s", ".0f"),
    Column("steps"),
    Column("gate", "dB", ".2f"),
    Column("ridge", "dB", ".2f"),
    Column("OMP", "dB", ".2f"),
]


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Train from nothing in each mode; `db_solve_60s`, `db_gate_60s`: OMP on the held-out photograph."""
    seconds = 1.0 if quick else 60.0
    rows: list[list[Any]] = []
    figures: dict[str, Any] = {}
    for mode, overrides in MODES.items():
        with tempfile.TemporaryDirectory() as folder:
            until = ["training.steps=1000000", f"training.max_seconds={seconds}", f"logging.run_dir={folder}/run"]
            config = load_config(CONFIG, [*overrides, *QUIET, *until])
            trainer = train(config)
        scores = scores_of(trainer, config)
        rows.append([mode, trainer.progress.seconds, trainer.step, scores["init"], scores["ridge"], scores["omp"]])
        figures[f"db_{mode}_{seconds:.0f}s"] = scores["omp"]
        figures |= {f"db_{mode}_{seconds:.0f}s_{label}": scores[label] for label in ("init", "ridge")}
        figures[f"steps_{mode}"] = trainer.step
    return figures, Table(_COLUMNS, rows)


def scores_of(trainer: Trainer, config: Config) -> dict[str, float]:
    """PSNR on the held-out photograph by the gate, by ridge on its support and by OMP: `init`, `ridge`, `omp`."""
    model = trainer.model.eval().requires_grad_(False)
    _, image = next(ImageTask(config).images("test"))
    fits = fit_image(model, image, [Method("init"), Method("ridge"), Method("omp")])
    return {label: psnr(fit.render(), image) for label, fit in fits.items()}
