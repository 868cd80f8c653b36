"""`make quickstart`: train on the embedded photographs, fit the one held out, compare, and say what to do next."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from nid_dist.baselines import dct, pca
from nid_dist.cli.entry import guarded
from nid_dist.cli.train import train
from nid_dist.coding.fitting import Method
from nid_dist.config import load_config
from nid_dist.data.tiling import Tiling
from nid_dist.evaluation.image_metrics import psnr, ssim
from nid_dist.evaluation.pictures import atoms_sheet, comparison
from nid_dist.evaluation.report import Column, Table, machine, replacing, write_json
from nid_dist.model import Model
from nid_dist.tasks.images import ImageArray, ImageFit, ImageTask, fit_image

CONFIG = Path("configs/quickstart.yaml")
OUT = Path("runs/quickstart")
_LABELS = {
    "omp": "NID, OMP",
    "ridge": "NID, ridge on the gate's support",
    "init": "NID, the gate's code",
    "pca": "PCA, first k",
    "pca_best": "PCA, best k",
    "dct_best": "DCT, best k",
}
_KEYS = {"omp": "db_omp", "ridge": "db_ridge_gate", "init": "db_gate_init"}


def baselines(task: ImageTask, image: ImageArray, k: int) -> dict[str, ImageArray]:
    """The held-out image by k coefficients a patch of fixed transforms; all also keep the d channel means, as NID does.

    Args:
        task: its training patches are what PCA learns from.
        image: held out.
        k: coefficients per patch.

    Returns:
        Reconstructions.
    """
    side = task.grid[0]
    tiling = Tiling(*image.shape[:2], side, side)
    patches = tiling.split(image).unflatten(1, task.grid)
    learned = pca.fit_pca(task.sample(len(task.signals)).unflatten(1, task.grid), centre="patch")
    results = {
        "pca": pca.truncate(learned, patches, k),
        "pca_best": pca.best_k(learned, patches, k),
        "dct_best": dct.best_k(patches, k),
    }
    return {name: tiling.assemble(r.flatten(1, 2)).float().clamp(0, 1).numpy() for name, r in results.items()}


def strongest_atoms(model: Model, fit: ImageFit, count: int) -> tuple[np.ndarray, list[str]]:
    """The atoms that carry most of an image, and their share of all |coefficient| x |atom|."""
    atoms = model.dictionary.atoms(model.coords).detach()
    code = fit.fit.solution.code
    weight = code.dense(model.dictionary.size).abs().sum(0) * atoms.flatten(1).norm(dim=1)
    order = weight.argsort(descending=True)[:count]
    shares = (100 * weight / weight.sum())[order]
    return atoms[order].unflatten(1, model.grid).numpy(), [f"{share:.1f} %" for share in shares]


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the quickstart."""
    begin = time.perf_counter()
    config = load_config(CONFIG, [*(sys.argv[1:] if arguments is None else arguments)])
    trainer, _ = train(config, resume="auto")
    task, model = trainer.task, trainer.model.eval().requires_grad_(False)
    name, image = next(task.images("test"))
    fits = fit_image(model, image, [Method("init"), Method("ridge"), Method("omp")])
    pictures = {label: fits[label].render(model) for label in ("omp", "ridge", "init")}
    pictures |= baselines(task, image, model.support)
    scores = {label: psnr(picture, image) for label, picture in pictures.items()}

    OUT.mkdir(parents=True, exist_ok=True)
    shown = {_LABELS[label]: pictures[label] for label in ("omp", "init", "pca_best", "dct_best")}
    comparison(OUT / "comparison.png", image, shown, title=f"{name}, held out: 16 x 16 patches, {model.support} coefficients each")
    atoms, shares = strongest_atoms(model, fits["omp"], 54)
    atoms_sheet(OUT / "atoms.png", atoms, shares, title=f"The strongest atoms on {name} (share of the code's magnitude)")
    columns = [Column("method"), Column("PSNR", "dB", ".2f"), Column("SSIM", "", ".4f"), Column("coefficients", "per patch")]
    rows = [[_LABELS[x], score, ssim(pictures[x], image), model.support] for x, score in scores.items()]
    table = Table(columns, sorted(rows, key=lambda row: -float(row[1] or 0)))
    # A continued or repeated quickstart counts the training's own seconds, wherever they were spent.
    seconds = time.perf_counter() - begin
    results = {_KEYS.get(label, f"db_{label}"): score for label, score in scores.items()}
    results |= {"seconds": seconds, "training_seconds": trainer.progress.seconds, "held_out": name}
    results |= {"experts": model.dictionary.size, "support": model.support, "threads": torch.get_num_threads()}
    write_json(OUT / "results.json", {**results, "machine": machine()})
    with replacing(OUT / "table.md") as temporary:
        temporary.write_text(table.markdown() + "\n")

    print(f"\n{name}, held out; {model.dictionary.size} experts, {model.support} coefficients a patch; {seconds:.0f} s in all\n")
    print(table.text())
    print(f"\nwrote {OUT}: comparison.png and atoms.png (look at these first), table.md, results.json, train/ (the run)")
    print(f"next: .venv/bin/nid-fit --dictionary {config.logging.run_dir} --input YOUR_IMAGES --out runs/my-fit")
    print("      your own dictionary: .venv/bin/nid-train --config configs/images.yaml --set signals.path=YOUR_FOLDER")
    return 0


main = guarded("quickstart", command)

if __name__ == "__main__":
    sys.exit(main())
