"""`make quickstart`: train on the embedded photographs, fit the one held out, compare, and say what to do next."""

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nid_dist.checkpoints.run_folder import RunFolder
from nid_dist.cli.entry import add_device_option, guarded
from nid_dist.cli.judging import say_judged
from nid_dist.cli.options import add_overrides, words_of
from nid_dist.coding.method import Method
from nid_dist.config import load_config
from nid_dist.device import processes_for
from nid_dist.errors import UserError
from nid_dist.evaluation.image_metrics import psnr, ssim
from nid_dist.evaluation.pictures import atoms_sheet, comparison
from nid_dist.evaluation.report import Column, Table, write_results
from nid_dist.export import load
from nid_dist.files import expanded
from nid_dist.model import Model
from nid_dist.parallel.launch.network import free_port
from nid_dist.tasks.images.fit import ImageArray, ImageFit, fit_image
from nid_dist.tasks.images.task import ImageTask
from nid_dist.tasks.images.transforms import fixed_transforms
from nid_dist.training.run import train

CONFIG = "quickstart"
_LABELS = {
    "omp": "NID, OMP",
    "ridge": "NID, ridge on the gate's support",
    "init": "NID, the gate's code",
    "pca": "PCA, first k",
    "pca_best": "PCA, best k",
    "dct_best": "DCT, best k",
}
_KEYS = {"omp": "db_omp", "ridge": "db_ridge_gate", "init": "db_gate_init"}
_ATOMS = 54
_PROCESSES = 2  # as on a cluster, in small


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="quickstart", description="Train on photographs, fit the one held out.")
    parser.add_argument("--out", type=expanded, default=Path("runs/quickstart"), help="where pictures and the table go")
    add_overrides(parser)
    parser.add_argument(
        "--processes",
        type=int,
        help="that share the experts, under DeepSpeed's launcher; 1: no launcher; default: 2, but one for each GPU",
    )
    add_device_option(parser, default=None)
    return parser


def _train(overrides: Sequence[str], processes: int) -> None:
    """The training itself, as on a cluster: `deepspeed --num_gpus N ... --config FILE`."""
    given = ["--config", CONFIG, "--resume", "auto", "--set", *overrides]
    if processes == 1:
        train(load_config(CONFIG, overrides), resume="auto")
        return
    command = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus", str(processes)]
    command += ["--master_port", str(free_port()), "--module", "nid_dist.cli.train", *given]
    print(f"training: {shlex.join(['deepspeed', *command[3:]])}", file=sys.stderr)
    with subprocess.Popen(command) as job:
        try:
            code = job.wait()
        except KeyboardInterrupt:
            # The job has got the signal, too, and writes a checkpoint.
            code = job.wait()
    if code:
        raise UserError(
            "the training",
            found=f"exit code {code} (its own words are above)",
            expected="0",
            hint="correct what it says, or train in one process with --processes 1",
        )


def strongest_atoms(model: Model, fit: ImageFit, count: int) -> tuple[np.ndarray, list[str]]:
    """The atoms that carry most of an image, at most `count`, and labels: their share of all |coefficient| x |atom|."""
    atoms = model.dictionary.atoms(model.coords).detach()
    code = fit.code
    weight = code.dense(model.dictionary.num_experts).abs().sum(0) * atoms.flatten(1).norm(dim=1)
    order = weight.argsort(descending=True)[:count]
    shares = (100 * weight / weight.sum().clamp_min(1e-30))[order]
    return atoms[order].unflatten(1, model.grid_shape).cpu().numpy(), [f"{share:.1f} %" for share in shares]


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the quickstart."""
    begin = time.perf_counter()
    options = parser().parse_args(arguments)
    out = options.out
    overrides = [f"logging.run_dir={out / 'train'}", *options.overrides]
    if options.device is not None:
        overrides.append(f"parallel.device={options.device}")
    config = load_config(CONFIG, overrides)
    processes = options.processes or processes_for(config.parallel.device, _PROCESSES)
    run = RunFolder(out / "train")
    before = run.progress()
    if not run.finished(config.training):
        _train(overrides, processes)
    progress = run.progress()
    if not run.finished(config.training):
        print(f"stopped at step {progress['step']}, checkpoint written")
        print("next: the same command goes on from there")
        return 0
    task, model = ImageTask(config), load(out / "train", device=config.parallel.device)
    name, image = _held_out(task)
    methods = [Method("omp"), *([Method("ridge"), Method("init")] if model.gate_reads_signals else [])]
    fits = fit_image(model, image, methods)
    pictures = {label: fit.render() for label, fit in fits.items()}
    pictures |= {
        label: transform(image, model.support)
        for label, transform in fixed_transforms(task).items()
        if label in _LABELS
    }
    scores = {label: psnr(picture, image) for label, picture in pictures.items()}
    # A continued or repeated quickstart counts all of the training, wherever it was done.
    seconds = time.perf_counter() - begin + before["seconds"]
    _draw(out, name, image, pictures, model, fits["omp"])
    table = _table(scores, pictures, image, model.support)
    results: dict[str, Any] = {_KEYS.get(label, f"db_{label}"): score for label, score in scores.items()}
    results |= {"seconds": seconds, "training_seconds": progress["seconds"], "held_out": name}
    results |= {"experts": model.dictionary.num_experts, "support": model.support, "processes": processes}
    write_results(out / "results.json", words_of("python -m nid_dist.cli.quickstart", arguments), results, table)
    size = f"{model.dictionary.num_experts} experts, {model.support} coefficients a patch"
    print(f"\n{name}, held out; {size}; {seconds:.0f} s in all\n\n{table.text()}")
    say_judged({name: fits["omp"].judgement})
    print(
        f"\nwrote {out}: comparison.png and atoms.png (look at these first), table.md, results.json, train/ (the run)"
    )
    print(f"next: .venv/bin/nid-fit --dictionary {config.logging.run_dir} --input YOUR_IMAGES --out runs/my-fit")
    print("      your own dictionary: .venv/bin/nid-train --config configs/images.yaml --set signals.path=YOUR_FOLDER")
    return 0


def _held_out(task: ImageTask) -> tuple[str, ImageArray]:
    for name, image in task.images("test", 1):
        return name, image
    raise UserError("signals.test", found="no image", expected="one to hold out", hint="set signals.test=[astronaut]")


def _draw(
    out: Path, name: str, image: ImageArray, pictures: dict[str, ImageArray], model: Model, fit: ImageFit
) -> None:
    shown = {_LABELS[label]: pictures[label] for label in ("omp", "init", "pca_best", "dct_best") if label in pictures}
    side = " x ".join(str(length) for length in model.grid_shape)
    comparison(
        out / "comparison.png",
        image,
        shown,
        title=f"{name}, held out: {side} patches, {model.support} coefficients each",
    )
    atoms, shares = strongest_atoms(model, fit, _ATOMS)
    atoms_sheet(
        out / "atoms.png", atoms, shares, title=f"The strongest atoms on {name} (share of the code's magnitude)"
    )


def _table(scores: dict[str, float], pictures: dict[str, ImageArray], image: ImageArray, k: int) -> Table:
    columns = [
        Column("method"),
        Column("PSNR", "dB", ".2f"),
        Column("SSIM", "", ".4f"),
        Column("coefficients", "per patch"),
    ]
    best_first = sorted(scores, key=lambda label: -scores[label])
    return Table(columns, [[_LABELS[label], scores[label], ssim(pictures[label], image), k] for label in best_first])


main = guarded("quickstart", command)

if __name__ == "__main__":
    sys.exit(main())
