"""How well f says what it was not shown."""

import numpy as np

from nid_dist.tasks.video.decomposition.decompose import Decomposition, Moment


class HeldOutPSNR:
    """How well f says what it was not shown: pixels and frames that were left out of the fit on purpose."""

    def __init__(self, found: Decomposition) -> None:
        self._task, self._fitted = found.task, set(found.task.signals)
        self._squares = {"": np.zeros(2), "_still": np.zeros(2)}

    def add(self, frame: int, moment: Moment) -> None:
        """Count a frame, as `Decomposition.at_frames` gives it."""
        if moment.frame is None:
            return
        if frame in self._fitted:
            if not self._task.section.video.missing_pixels:
                return
            out = ~self._task.kept_pixels([frame])[0].reshape(moment.foreground.shape)
        else:
            out = np.ones_like(moment.foreground)
        square = np.square(moment.frame - moment.background.clip(0, 1)).mean(-1)
        for name, where in (("", out), ("_still", out & ~moment.foreground)):
            self._squares[name] += square[where].sum(dtype=np.float64), where.sum()

    def figures(self) -> dict[str, float]:
        """PSNR on all that was left out, and on what of it nothing moves in; nothing where nothing was."""
        return {
            f"left_out{name}_db": float(-10 * np.log10(total / count))
            for name, (total, count) in self._squares.items()
            if count and total
        }
