"""Fit images one after the other and write what a person wants to see of it: codes, pictures, a table."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from nid_dist.coding.fitting import Method
from nid_dist.coding.storage import save_codes, stored_bytes
from nid_dist.evaluation.image_metrics import psnr, ssim
from nid_dist.evaluation.pictures import comparison, save_image
from nid_dist.evaluation.report import Column, Table, machine, replacing, write_json
from nid_dist.model import Model
from nid_dist.tasks.images import ImageFit, fit_image

_COLUMNS = [
    Column("image"),
    Column("solver"),
    Column("PSNR", "dB", ".2f"),
    Column("SSIM", "", ".4f"),
    Column("non-zeros", "per signal"),
    Column("code", "bytes/signal"),
    Column("time", "ms/signal", ".3f"),
]
Row = dict[str, Any]


def report_images(
    model: Model,
    images: Iterable[tuple[str, Float32[np.ndarray, "H W d"]]],
    methods: Sequence[Method],
    out: Path,
    *,
    stride: int | None = None,
    scale: float | None = None,
    command: str,
) -> Table:
    """Fit images and write, per image, codes, reconstructions and an error map; for all, a table.

    Args:
        model: frozen.
        images: names and pixels.
        methods: how to fit.
        out: folder; files appear complete or not at all.
        stride: step between patches; None: no overlap.
        scale: also write the last method's f at this multiple of the image's resolution.
        command: to be recorded with the figures.

    Returns:
        One row per image and method, and the means.
    """
    rows: list[Row] = []
    for name, image in images:
        fits = fit_image(model, image, methods, stride)
        folder = out / _folder_name(name)
        folder.mkdir(parents=True, exist_ok=True)
        rows += [_row(name, label, result, image, model) for label, result in fits.items()]
        _write(folder, name, image, fits, model, stride)
        if scale is not None:
            size = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
            last = methods[-1].label
            save_image(folder / f"{last}-x{scale:g}.png", fits[last].render(model, *size))
    table = Table(_COLUMNS, [list(row.values()) for row in rows + _means(rows)])
    with replacing(out / "table.md") as temporary:
        temporary.write_text(f"`{command}`\n\n{table.markdown()}\n")
    write_json(out / "results.json", {"command": command, "machine": machine(), "rows": rows, "means": _means(rows)})
    return table


def _row(name: str, label: str, result: ImageFit, image: np.ndarray, model: Model) -> Row:
    shown = result.render(model)
    code = result.fit.solution.code
    return {
        "image": name,
        "solver": label,
        "psnr_db": psnr(shown, image),
        "ssim": ssim(shown, image),
        "nonzeros_per_signal": int((code.values != 0).sum(1).max()),
        "bytes_per_signal": stored_bytes(code, model.dictionary.size),
        "ms_per_signal": 1e3 * result.fit.seconds / code.signals,
    }


def _means(rows: list[Row]) -> list[Row]:
    if len({row["image"] for row in rows}) < 2:
        return []
    means = []
    for label in dict.fromkeys(row["solver"] for row in rows):
        own = [row for row in rows if row["solver"] == label]
        figures = {key: float(np.mean([row[key] for row in own])) for key in own[0] if key not in ("image", "solver")}
        figures["nonzeros_per_signal"] = max(row["nonzeros_per_signal"] for row in own)
        figures["bytes_per_signal"] = own[0]["bytes_per_signal"]
        means.append({"image": "mean", "solver": label, **figures})
    return means


def _write(
    folder: Path, name: str, image: np.ndarray, fits: dict[str, ImageFit], model: Model, stride: int | None
) -> None:
    patch = model.config.signals.patch
    facts = {
        "image": name,
        "height": image.shape[0],
        "width": image.shape[1],
        "patch": patch,
        "stride": stride or patch,
    }
    codes = {label: result.fit.solution.code for label, result in fits.items()}
    save_codes(folder / "codes.safetensors", codes, model.dictionary.size, facts)
    shown = {label: result.render(model) for label, result in fits.items()}
    for label, picture in shown.items():
        save_image(folder / f"{label}.png", picture)
    title = f"{name}: {model.dictionary.size} experts, {model.support} per signal"
    comparison(folder / "comparison.png", image, shown, title=title)


def _folder_name(name: str) -> str:
    # Names are relative paths; one folder per image, without the risk of leaving `out`.
    return name.replace("/", "__").replace("..", "_")
