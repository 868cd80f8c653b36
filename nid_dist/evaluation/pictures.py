"""What a run shows: images, reconstructions beside their error, sheets of atoms and curves, as PNG files.

Figures are drawn through matplotlib's object-oriented interface, so that nothing here touches a global state, needs a
display, or changes the figures of a program that imports this package.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image

from nid_dist.evaluation.image_metrics import psnr
from nid_dist.files import replacing

DOTS_PER_INCH = 150
TEXT_SIZE = 9
PANEL_INCHES = 2.6
PANEL_PIXELS = 1024  # of a side, at most
RECONSTRUCTIONS_PER_ROW = 4
_FEW = 8  # abscissae of curves that are named one by one
ERROR_COLOURS = "magma"
# Errors above this quantile saturate: one bad pixel must not turn the rest of the map black.
ERROR_QUANTILE = 0.995


def save_image(path: str | Path, array: Float[np.ndarray, "H W d"]) -> None:
    """Save an image in [0, 1] (clipped; 0 where a value is not a number) as an 8-bit PNG, atomically.

    Raises:
        UserError: the file cannot be written.
        ValueError: there are neither one nor three channels.
    """
    picture = Image.fromarray(np.rint(as_shown(array) * 255).astype(np.uint8))
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def error_map(estimate: Float[np.ndarray, "H W d"], target: Float[np.ndarray, "H W d"]) -> Float[np.ndarray, "H W"]:
    """Absolute error of each pixel, averaged over the channels, in grey levels: 255 where black stands for white."""
    error: np.ndarray = np.abs(estimate.astype(np.float64) - target.astype(np.float64)).mean(axis=2)
    return 255.0 * error


def comparison(
    path: str | Path,
    original: Float[np.ndarray, "H W d"],
    reconstructions: Mapping[str, Float[np.ndarray, "H W d"]],
    *,
    title: str = "",
    captions: Mapping[str, str] | None = None,
) -> None:
    """Save the original, its reconstructions with their PSNR, and under each its error map on one common scale.

    Reconstructions are clipped to [0, 1], as they are shown, before their error and PSNR are taken.

    Args:
        path: the PNG file; missing folders are made.
        original: values in [0, 1].
        reconstructions: by name, of the original's shape; drawn in this order, at most four to a row.
        title: a line above everything; empty for none.
        captions: by name, more to say under the PSNR of a reconstruction (SSIM, bytes, seconds …).

    Raises:
        UserError: the file cannot be written.
        ValueError: there is no reconstruction, or shapes differ, or there are neither one nor three channels.
    """
    if not reconstructions:
        raise ValueError("a comparison needs at least one reconstruction")
    figures = {name: psnr(np.clip(values, 0.0, 1.0), original) for name, values in reconstructions.items()}
    errors, largest = {}, 0.0
    for name, values in reconstructions.items():
        error = error_map(np.clip(values, 0.0, 1.0), original)
        errors[name], largest = _reduced(error), max(largest, float(np.nanmax(error, initial=0.0)))
    # A panel has fewer pixels than a large image, and matplotlib would copy the image many times.
    clipped = {name: _reduced(np.clip(values, 0.0, 1.0)) for name, values in reconstructions.items()}
    scale = _error_scale(list(errors.values()))

    bands = math.ceil(len(clipped) / RECONSTRUCTIONS_PER_ROW)
    per_row = math.ceil(len(clipped) / bands)
    aspect = original.shape[0] / original.shape[1]
    height = min(1.4 * PANEL_INCHES, max(1.1, PANEL_INCHES * aspect))
    width = min(PANEL_INCHES, max(1.9, height / aspect))
    figure = Figure(
        figsize=(width * (1 + per_row) + 0.2, bands * (2 * height + 0.7) + (0.4 if title else 0.0)),
        layout="constrained",
    )
    axes = figure.subplots(2 * bands, 1 + per_row, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    draw_panel(axes[0, 0], as_shown(_reduced(original)), "original")
    for place, (name, values) in enumerate(clipped.items()):
        row, column = 2 * (place // per_row), 1 + place % per_row
        caption = [name, f"{figures[name]:.2f} dB", (captions or {}).get(name, "")]
        lines = [line for text in caption for line in textwrap.wrap(text, int(13 * width))]
        draw_panel(axes[row, column], as_shown(values), "\n".join(lines))
        draw_panel(axes[row + 1, column], errors[name], "", scale)
    _error_legend(figure, axes[1, 0], scale, largest)
    if title:
        draw_title(figure, title)
    save_figure(path, figure)


def atoms_sheet(
    path: str | Path, atoms: Float[np.ndarray, "j H W d"], labels: Sequence[str], *, title: str = ""
) -> None:
    """Save a sheet of atoms: each divided by its own largest magnitude, drawn around mid grey (grey is zero).

    `labels` stand above each, such as its share of the usage ("3.1 %"), `title` above everything.

    Raises:
        UserError: the file cannot be written.
        ValueError: there is no atom, not one label each, or there are neither one nor three channels.
    """
    count = len(atoms)
    if count == 0 or len(labels) != count:
        raise ValueError(f"a sheet needs atoms and one label each; found {count} atoms and {len(labels)} labels")
    columns = min(count, 16, max(4, math.ceil(math.sqrt(1.6 * count))))
    rows = math.ceil(count / columns)
    height = min(2.0, max(0.5, atoms.shape[1] / atoms.shape[2]))
    figure = Figure(
        figsize=(max(3.0, 0.95 * columns), rows * (0.93 * height + 0.22) + (0.35 if title else 0.05)),
        layout="constrained",
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, atom, label in zip(axes.flat, atoms, labels, strict=False):
        magnitude = float(np.abs(atom).max())
        # An atom that is zero everywhere stays grey; dividing by its magnitude would make it not a number.
        draw_panel(axis, as_shown(0.5 + 0.5 * atom / (magnitude or 1.0)), label, text_size=TEXT_SIZE - 1.5)
    if title:
        draw_title(figure, title)
    save_figure(path, figure)


def curve(
    path: str | Path,
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    xlabel: str,
    ylabel: str,
    *,
    logarithmic: bool = False,
) -> None:
    """Save one or more curves over a common abscissa.

    Args:
        path: the PNG file; missing folders are made.
        series: name → (abscissae, ordinates), sequences of equal length; values that are not finite leave a gap.
        logarithmic: whether the abscissa is, for positive values.

    Raises:
        UserError: the file cannot be written.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = figure.subplots()
    for name, (abscissae, ordinates) in series.items():
        finite = np.where(np.isfinite(np.asarray(ordinates, float)), np.asarray(ordinates, float), np.nan)
        marker = "o" if len(finite) <= 40 else ""
        axis.plot(np.asarray(abscissae, float), finite, label=name, linewidth=1.6, marker=marker, markersize=3)
    if logarithmic:
        axis.set_xscale("log")
        places = sorted({float(x) for abscissae, _ in series.values() for x in np.asarray(abscissae, float)})
        if len(places) <= _FEW:  # powers of ten say little of a few places within one of them
            axis.set_xticks(places, [f"{place:g}" for place in places])
            axis.xaxis.minorticks_off()
    axis.set_xlabel(xlabel, parse_math=False)
    axis.set_ylabel(ylabel, parse_math=False)
    axis.grid(color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        figure.legend(
            loc="outside upper center",
            ncols=min(4, len(series), max(1, 90 // max(map(len, series)))),
            frameon=False,
            fontsize=TEXT_SIZE,
        )
    save_figure(path, figure)


def _reduced(array: np.ndarray) -> np.ndarray:
    """Means over blocks of pixels, as many as leave at most `PANEL_PIXELS` a side."""
    factor = -(-max(array.shape[:2]) // PANEL_PIXELS)
    if factor == 1:
        return array
    down, across = (min(factor, side) for side in array.shape[:2])
    height, width = array.shape[0] // down, array.shape[1] // across
    blocks = array[: height * down, : width * across].reshape(height, down, width, across, *array.shape[2:])
    means: np.ndarray = blocks.mean(axis=(1, 3), dtype=array.dtype)
    return means


def as_shown(array: np.ndarray) -> np.ndarray:
    """An array as a picture shows it: clipped, finite, [H, W, 3] or [H, W] for one channel."""
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise ValueError(f"a picture needs the shape [H, W, 1] or [H, W, 3]; found {list(array.shape)}")
    picture = np.clip(np.nan_to_num(array.astype(np.float64), nan=0.0), 0.0, 1.0)
    return picture[..., 0] if array.shape[2] == 1 else picture


def draw_panel(
    axis: Axes, picture: np.ndarray, caption: str, scale: Normalize | None = None, text_size: float = TEXT_SIZE
) -> None:
    """Draw one picture: grey or colour in [0, 1], or errors on the given scale."""
    colours, norm = ("gray", Normalize(0.0, 1.0)) if scale is None else (ERROR_COLOURS, scale)
    # Small pictures are enlarged, and any smoothing there would show structure that is not in them.
    interpolation = "nearest" if max(picture.shape[:2]) < PANEL_INCHES * DOTS_PER_INCH else "antialiased"
    axis.imshow(picture, cmap=colours, norm=norm, interpolation=interpolation)
    axis.set_title(caption, fontsize=text_size, pad=3, parse_math=False)


def _error_scale(errors: Sequence[np.ndarray]) -> Normalize:
    finite = np.concatenate([error[np.isfinite(error)] for error in errors])
    top = float(np.quantile(finite, ERROR_QUANTILE)) if finite.size else 0.0
    return Normalize(0.0, max(1.0, math.ceil(top)))


def _error_legend(figure: Figure, axis: Axes, scale: Normalize, largest: float) -> None:
    """Fill the panel under the original with the colour bar of all error maps."""
    beyond = largest > float(scale.vmax or 0.0)
    bar = figure.colorbar(
        ScalarMappable(scale, ERROR_COLOURS),
        cax=axis.inset_axes((0.05, 0.5, 0.9, 0.07)),
        orientation="horizontal",
        extend="max" if beyond else "neither",
    )
    bar.ax.tick_params(labelsize=TEXT_SIZE - 1)
    bar.ax.set_title("absolute error,\nmean over channels", fontsize=TEXT_SIZE, pad=5)
    note = f"\n(largest {largest:.0f})" if beyond else ""
    bar.set_label(f"grey levels (1/255){note}", fontsize=TEXT_SIZE)


def draw_title(figure: Figure, title: str) -> None:
    """Write a line above everything, in several where it is long."""
    lines = textwrap.wrap(title, int(11 * figure.get_figwidth()))
    figure.suptitle("\n".join(lines), fontsize=TEXT_SIZE + 2, parse_math=False)


def save_figure(path: str | Path, figure: Figure, *, dots_per_inch: int = DOTS_PER_INCH, palette: bool = False) -> None:
    """Save a figure as PNG, atomically; missing folders are made.

    `palette` says whether 256 colours, dithered, are enough: a third of the bytes.
    """
    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dots_per_inch)
        if palette:
            with Image.open(temporary) as drawn:
                few = drawn.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT)
            few.save(temporary, format="PNG", optimize=True)
