"""`nid-decompose`: a video that a dictionary was trained on as background, transients and foreground mask."""

import argparse
import sys
from collections.abc import Sequence

from nid_dist.cli.entry import add_device_option, chosen_device, guarded
from nid_dist.cli.judging import say_judged
from nid_dist.errors import UserError
from nid_dist.export import load
from nid_dist.files import expanded, keep_apart, new_folder
from nid_dist.memory import keep_freed_memory
from nid_dist.tasks.video.config import VideoSection

_MOST = 16384  # rows or columns that video players show


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="nid-decompose", description="Take a video apart that has been trained on.")
    parser.add_argument("--run", type=expanded, required=True, help="a run, a checkpoint or an export")
    parser.add_argument("--out", type=expanded, required=True, help="a new folder for videos, pictures and figures")
    parser.add_argument("--input", type=expanded, help="the video, if it is not any more where it was trained from")
    parser.add_argument("--fps", type=float, help="frames per second; default: the video's own frames")
    parser.add_argument("--size", help="ROWSxCOLUMNS of the output; default: as trained")
    parser.add_argument("--lossless", action="store_true", help="FFV1 in .mkv instead of H.264 in .mp4")
    add_device_option(parser)
    return parser


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    size = _size(options.size)
    if options.fps is not None and not 0 < options.fps <= 1000:
        raise UserError(
            "--fps", found=f"{options.fps:g}", expected="above 0 and at most 1000", hint="choose such a rate"
        )
    keep_freed_memory()
    device = chosen_device(options)
    model = load(options.run, device=device.device)
    model.config.signals_of(VideoSection, str(options.run))
    keep_apart(options.out, [options.input or model.config.signals_of(VideoSection).path])
    with new_folder(options.out) as folder:
        fit = model.fit(options.input)
        print(device)
        written = fit.write(folder, rate=options.fps, size=size, lossless=options.lossless)["files"]
    found = fit.decomposition
    rank = len(found.background.experts)
    detail = sum(scene.detail.any(2).mean() for scene in found.scenes) / len(found.scenes)
    gains = found.task.light.gains
    if len(found.task.shots) > 1:
        print(found.task.shots_in_words())
    print(
        f"background: {rank} of {model.dictionary.num_experts} components, still detail at {detail:.1%} of the pixels; "
        f"noise {found.background.noise:.4f}; gains of the light from {gains.min():.3f} to {gains.max():.3f}"
    )
    say_judged({found.task.video.path.name: fit.judgement})
    print(f"wrote {options.out}: {', '.join(written)}")
    print(f"next: look at {options.out / written[0]} and {options.out / written[1]}")
    return 0


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    rows, _, columns = text.lower().partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and 2 <= int(rows) <= _MOST and 2 <= int(columns) <= _MOST):
        raise UserError(
            "--size", found=text, expected=f"ROWSxCOLUMNS from 2 to {_MOST}", hint="write it as 1080x1920, for example"
        )
    return int(rows), int(columns)


main = guarded("nid-decompose", command)

if __name__ == "__main__":
    sys.exit(main())
