"""A training that goes back to an earlier checkpoint: the later ones are set aside, and nothing is lost."""

import os
from pathlib import Path

from nid_dist.checkpoints.run_folder import RunFolder
from nid_dist.errors import UserError

ABANDONED = "abandoned"


def set_aside_later(folder: RunFolder, step: int) -> list[Path]:
    """Move checkpoints later than the step of continuation to `abandoned/` in the run's folder: their new paths.

    They belong to another course of the training: left in place, the next resumption or `nid_dist.load` would
    take them for its end.

    Raises:
        UserError: when they cannot be moved.
    """
    moved = []
    for path in sorted(folder.checkpoints.glob("step-*")):
        number = path.name.removeprefix("step-")
        if not number.isdigit() or int(number) <= step:
            continue
        target, copies = folder.path / ABANDONED / path.name, 1
        while target.exists():
            copies += 1
            target = target.with_name(f"{path.name}-{copies}")
        try:
            target.parent.mkdir(exist_ok=True)
            os.rename(path, target)
        except OSError as error:
            raise UserError(
                str(path),
                found=f"that it cannot be moved to {ABANDONED}/ ({error.strerror or error})",
                expected="a writable run folder",
                hint="move it away yourself, or choose another logging.run_dir",
            ) from error
        moved.append(target)
    return moved
