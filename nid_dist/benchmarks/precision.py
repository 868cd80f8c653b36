"""`precision`: dB on the held-out photograph after as many steps in each precision.

Codes are solved in full precision in all of them. How much another seed makes is beside: less is no difference.
"""

import tempfile
from typing import Any

from nid_dist.benchmarks.harness import QUIET
from nid_dist.benchmarks.quality import CONFIG, MODES, scores_of
from nid_dist.config import load_config
from nid_dist.device import resolve_device
from nid_dist.evaluation.report import Column, Table
from nid_dist.precision import shortfall
from nid_dist.training.run import train

STEPS = {"schedule": 300, "gate": 150}
"""Of a training of each mode: codes solved, then the gate alone; and both together."""

_METHODS = {"init": "gate", "ridge": "ridge", "omp": "OMP"}
_COLUMNS = [
    Column("mode", key="mode"),
    Column("precision", key="precision"),
    Column("steps", key="steps"),
    *(Column(name, "dB", ".2f", f"db_{label}") for label, name in _METHODS.items()),
    *(Column(f"{name} against fp32", "dB", "+.2f", f"gain_{label}") for label, name in _METHODS.items()),
]


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Train from nothing in each mode and precision that the device has.

    The figures are `db_MODE_PRECISION_METHOD`.
    """
    device = resolve_device("auto")
    variants = {"fp32": "fp32", "fp32, another seed": "fp32"}
    if shortfall("tf32", device) is None:
        variants["tf32"] = "tf32"
    variants["bf16"] = "bf16"
    figures: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for mode, steps in STEPS.items():
        exact: dict[str, float] = {}
        for words, precision in variants.items():
            seed = int(words != precision)
            given = [f"training.precision={precision}", f"training.seed={seed}"]
            row = _trained([*MODES[mode], *given], 3 if quick else steps)
            exact = exact or row
            gains = {f"gain_{label}": row[f"db_{label}"] - exact[f"db_{label}"] for label in _METHODS}
            rows.append(row | gains | {"mode": mode, "precision": words})
            name = f"{mode}_{precision}" + "_seed1" * seed
            figures |= {f"db_{name}_{label}": row[f"db_{label}"] for label in _METHODS}
    return figures, Table.of(_COLUMNS, rows)


def _trained(overrides: list[str], steps: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        until = [f"training.steps={steps}", f"logging.run_dir={folder}/run"]
        config = load_config(CONFIG, [*overrides, *QUIET, *until])
        trainer = train(config)
    scores = scores_of(trainer, config)
    return {"steps": trainer.step} | {f"db_{label}": scores[label] for label in _METHODS}
