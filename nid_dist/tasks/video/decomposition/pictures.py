"""What a decomposition looks like on paper: some moments side by side, and the components over time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from nid_dist.evaluation.grids import picture_grid
from nid_dist.evaluation.pictures import TEXT_SIZE, as_shown, draw_panel, save_figure
from nid_dist.tasks.video.decomposition.decompose import Decomposition, Moment

_MOST = 8  # components that are drawn


def panels(moment: Moment) -> dict[str, Float[np.ndarray, "H W d"]]:
    """What is shown of a moment, from left to right; transients lie around mid grey."""
    frame = np.zeros_like(moment.background) if moment.frame is None else moment.frame
    mask = np.repeat(moment.foreground[..., None], frame.shape[2], 2).astype(np.float32)
    return {
        "video": frame,
        "background": moment.background.clip(0, 1),
        "transients": (0.5 + moment.transients).clip(0, 1),
        "foreground": mask,
    }


def overview(path: Path, moments: Sequence[Moment], *, title: str = "") -> None:
    """Save some moments, a row each.

    Raises:
        UserError: when it cannot be written.
    """
    rows = {
        f"{moment.time:.2f} s": {name: (picture, "") for name, picture in panels(moment).items()} for moment in moments
    }
    picture_grid(path, rows, title=title)


def component_sheet(path: Path, found: Decomposition) -> None:
    """Save the strongest components in their order, the background's as refitted, each with its activation over time.

    Raises:
        UserError: when it cannot be written.
    """
    model, active = found.model, found.active.cpu().numpy()
    strength = np.sqrt(np.square(active).mean(0))
    chosen = sorted(np.argsort(-strength, kind="stable")[:_MOST].tolist())
    figure = Figure(figsize=(7.2, 1.05 * len(chosen) + 0.3), layout="constrained")
    axes = figure.subplots(len(chosen), 2, squeeze=False, width_ratios=[1, 4])
    height = float(np.abs(active).max()) or 1.0
    for (picture, curve), expert in zip(axes, chosen, strict=True):
        atom = model.dictionary.atoms(model.coords, expert, expert + 1)[0].unflatten(0, model.grid_shape).cpu().numpy()
        # Each by its own magnitude, around mid grey, and the way up it has most of the time.
        sign = 1.0 if active[:, expert].sum() >= 0 else -1.0
        picture.axis("off")
        draw_panel(picture, as_shown(0.5 + 0.5 * sign * atom / (np.abs(atom).max() or 1.0)), "")
        curve.plot(found.times, sign * active[:, expert], linewidth=1.0)
        curve.axhline(0, color="0.8", linewidth=0.6)
        curve.set_ylim(-1.05 * height, 1.05 * height)
        part = "background" if expert in found.background.experts else "transients"
        curve.set_title(f"component {expert + 1}, {part}", fontsize=TEXT_SIZE, loc="left", pad=2)
        curve.tick_params(labelsize=TEXT_SIZE - 1)
        curve.spines[["top", "right"]].set_visible(False)
    axes[-1, 1].set_xlabel("time (s); activation in the frames' units", fontsize=TEXT_SIZE)
    save_figure(path, figure)
