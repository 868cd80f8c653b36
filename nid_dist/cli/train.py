"""`nid-train`: train a dictionary from a configuration."""

import argparse
import shlex
import sys
from collections.abc import Sequence

from nid_dist.cli.entry import RankZeroArgumentParser, add_device_option, guarded
from nid_dist.cli.options import add_overrides
from nid_dist.config import load_config
from nid_dist.parallel.launch.launching import Launch, detect_launch
from nid_dist.training.run import train

# What a person does with a trained run, where there is a command for its task.
_NEXT = {
    "images": "nid-fit --dictionary {run} --input YOUR_IMAGES --out {run}/fit",
    "video": "nid-decompose --run {run} --out {run}/decomposition",
    "ct": "nid-reconstruct-ct --dictionary {run} --sinogram S.npy --geometry S.yaml --out {run}/slice",
    "shapes": "nid-reconstruct --dictionary {run} --points CLOUD.ply --out SURFACE",
}


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = RankZeroArgumentParser(prog="nid-train", description="Train a neural implicit dictionary.")
    parser.add_argument("--config", required=True, metavar="NAME|FILE", help="quickstart, images, ...; or a YAML file")
    parser.add_argument("--single-process", action="store_true", help="one process, no launcher (debugging, tests)")
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS
    )  # DeepSpeed's launcher adds it
    parser.add_argument("--resume", metavar="auto|PATH", help="continue the run (auto), or from one checkpoint")
    add_overrides(parser)
    add_device_option(parser, default=None)
    return parser


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    if options.device is not None:
        options.overrides.append(f"parallel.device={options.device}")
    launch = detect_launch(single_process=options.single_process)
    config = load_config(options.config, options.overrides)
    trainer = train(config, options.resume, launch)
    if not trainer.world.first:
        return 0
    run_dir = config.logging.run_dir
    if trainer.stopped_by is not None:
        print(f"stopped by {trainer.stopped_by} at step {trainer.step}, checkpoint written to {run_dir}/checkpoints")
        print(f"next: {again(options, launch, '--resume', 'auto')}")
        return 0
    fit = "nid-fit --dictionary {run} --input YOUR_FILES --out {run}/fit"
    follows = _NEXT.get(config.task, fit).format(run=run_dir)
    if not trainer.figures:
        longer = again(options, launch, "--resume", "auto", "--set", f"training.steps={2 * trainer.step}")
        print(f"nothing left to do: {run_dir} has finished at step {trainer.step}")
        print(f"next: {follows}")
        print(f"      to train on: {longer}")
        return 0
    shown = ", ".join(f"{name} {value:.4g}" for name, value in trainer.figures.items() if not name.startswith("tokens"))
    print(f"trained {trainer.step} steps: {shown}")
    print(f"wrote {run_dir}: checkpoints/, events/ (TensorBoard), log.jsonl, config.yaml")
    print(f"next: {follows}")
    return 0


def again(options: argparse.Namespace, launch: Launch, *more: str) -> str:
    """The command that continues the run: the same configuration, overridden as before."""
    if launch.size > 1:
        return f"the same launch, or one of another size, with {shlex.join(more)}"
    words = ["nid-train", "--config", str(options.config), *(["--single-process"] if options.single_process else [])]
    given = ["--set", *options.overrides] if options.overrides else []
    return shlex.join([*words, *given, *more])


main = guarded("nid-train", command, together=True)

if __name__ == "__main__":  # `deepspeed --module nid_dist.cli.train`
    sys.exit(main())
