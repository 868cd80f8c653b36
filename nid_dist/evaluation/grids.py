"""Pictures side by side: one row per image, one column per method."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from nid_dist.evaluation.pictures import TEXT_SIZE, as_shown, draw_panel, draw_title, save_figure

_INCHES, _DOTS = 1.45, 92


def picture_grid(
    path: str | Path, rows: Mapping[str, Mapping[str, tuple[Float[np.ndarray, "H W d"], str]]], *, title: str = ""
) -> None:
    """Save pictures as a grid.

    Args:
        path: the PNG file; missing folders are made.
        rows: label of a row → name of a column → the picture, values in [0, 1], and a caption under it (its dB); a row
            may lack some.
        title: a line above everything; empty for none.

    Raises:
        UserError: the file cannot be written.
        ValueError: there is nothing to show, or there are neither one nor three channels.
    """
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    if not rows or not names:
        raise ValueError("a grid needs at least one picture")
    first = next(picture for row in rows.values() for picture, _ in row.values())
    height = _INCHES * first.shape[0] / first.shape[1]
    figure = Figure(
        figsize=(_INCHES * len(names) + 0.3, len(rows) * (height + 0.22) + 0.3 + (0.3 if title else 0.0)),
        layout="constrained",
    )
    axes = figure.subplots(len(rows), len(names), squeeze=False)
    for line, (label, row) in enumerate(rows.items()):
        for column, name in enumerate(names):
            axis = axes[line, column]
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            if name in row:
                picture, caption = row[name]
                head = "\n".join(textwrap.wrap(name, 20)) if line == 0 else ""
                draw_panel(axis, as_shown(picture), head, text_size=TEXT_SIZE - 1.0)
                axis.set_xlabel(caption, fontsize=TEXT_SIZE - 1.0, labelpad=2, parse_math=False)
            if column == 0:
                axis.set_ylabel(label, fontsize=TEXT_SIZE - 1.0, parse_math=False)
    if title:
        draw_title(figure, title)
    save_figure(path, figure, dots_per_inch=_DOTS, palette=True)
