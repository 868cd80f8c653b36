"""`ct`: reconstruction from 8 and 16 views against classical methods and SIREN, and the operator's adjoint."""

import tempfile
from typing import Any

import torch

from nid_dist.benchmarks.harness import compare
from nid_dist.comparison.factory import load_comparison
from nid_dist.config import find_config
from nid_dist.evaluation.report import Column, Table
from nid_dist.measurements.geometry import Geometry
from nid_dist.measurements.radon import Radon, nodes_for
from nid_dist.tasks.ct.comparison import HELD_OUT

CONFIG = find_config("compare_ct")
VIEWS = (8, 16)
# SIREN has a minute, in which it does not come as far as the dictionary does.
_FEW = ["views=[8, 16]", "photons=[null]", "slices=[]", "baselines=[baselines/siren_ct.yaml]", "seconds=60"]
_ALL = ["baselines=[]"]  # every number of views, both doses, and slices unlike the training data
_QUICK_ALL = ["views=[4, 8]", "photons=[null]", "slices=[retina]"]
QUICK = [
    "phantoms=1",
    "tuned_on=1",
    "seconds=0.2",
    "dictionary.set=["
    "signals.phantoms=24, signals.size=17, dictionary.experts=64, dictionary.width=24, "
    "dictionary.encoding.features=12, "
    "coding.support=8, coding.prior_rank=16, training.steps=4, training.batch=4, training.eval_every=0]",
]
_COLUMNS = [
    Column("views", key="views"),
    Column("method", key="method"),
    Column("PSNR", "dB", ".2f", "psnr_db"),
    Column("SSIM", "", ".3f", "ssim"),
    Column("time", "s", ".3f", "seconds"),
    Column("once per geometry", "s", ".2f", "once"),
]


def run(quick: bool = False) -> tuple[dict[str, Any], Table]:
    """Compare on scans of held-out phantoms; the dictionary is trained where it has not been.

    The figures: those of `over_classical`, of all of the comparison's views and doses. Of clean scans from 8 and 16
    views: `db_nid_8`, the best of the dictionary's solvers, and `db_best_classical_8`; `time_ratio_siren_16`: SIREN's
    seconds over that solver's, what depends on the geometry alone prepared before; `adjoint_error`.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = [*QUICK, f"run_dir={folder}"] if quick else []
        report = compare(load_comparison(CONFIG, [*_FEW, *own]), CONFIG).report
        whole = [*_ALL, *own, *(_QUICK_ALL if quick else [])]
        over = compare(load_comparison(CONFIG, whole), CONFIG).report.facts["figures"]
    means = [mean for mean in report.facts["means"] if mean["group"] == HELD_OUT]
    figures: dict[str, Any] = {}
    for views in VIEWS:
        here = [mean for mean in means if mean["views"] == views]
        ours = max((mean for mean in here if mean["method"].startswith("NID")), key=lambda mean: mean["psnr_db"])
        best = max((mean for mean in here if mean["classical"]), key=lambda mean: mean["psnr_db"])
        siren = next(mean for mean in here if mean["method"].startswith("SIREN"))
        figures |= {
            f"db_nid_{views}": ours["psnr_db"],
            f"solver_{views}": ours["method"],
            f"db_best_classical_{views}": best["psnr_db"],
            f"best_classical_{views}": best["method"],
            f"db_siren_{views}": siren["psnr_db"],
            f"time_ratio_siren_{views}": siren["seconds"] / ours["seconds"],
            f"time_ratio_siren_{views}_with_geometry": siren["seconds"] / (ours["seconds"] + ours["once"]),
        }
    figures |= {**over, "adjoint_error": adjoint_error()}
    return figures, Table.of(_COLUMNS, means)


def adjoint_error(side: int = 65, views: int = 16) -> float:
    """Of the Radon transform of images in float32: |<R u, g> - <u, R* g>| / (|R u| |g|), the larger of two beams'.

    It is rounding, for an exact adjoint.
    """
    generator, found = torch.Generator().manual_seed(0), []
    for source in (None, 3.0):
        radon = Radon(Geometry.even(views, side, source), nodes_for(side))
        image = torch.randn(side, side, 1, generator=generator)
        measured = torch.randn(radon.size, 1, generator=generator)
        forward, backward = radon.of_image(image), radon.adjoint(measured, (side, side))
        difference = (forward * measured).sum() - (image * backward).sum()
        found.append(float(difference.abs() / (forward.norm() * measured.norm())))
    return max(found)
