"""Tiny comparisons: configurations that name a tiny dictionary and tiny networks."""

from pathlib import Path

import pytest

from tests.tiny import write_sizes

SIREN = "{kind: siren, width: 8, hidden_layers: 1, output: unit, lr: 1.0e-3, steps: 5}"
META = (
    "{kind: siren, width: 8, hidden_layers: 1, output: unit, optimizer: sgd, lr: 0.1, "
    "meta: {outer_steps: 2, batch: 1, coordinates: 50, inner_steps: 1}}"
)


@pytest.fixture(scope="module")
def folder(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the configurations are; `runs` in it keeps what is trained."""
    folder = tmp_path_factory.mktemp("comparison")
    write_sizes(folder)
    (folder / "siren.yaml").write_text(SIREN)
    (folder / "meta.yaml").write_text(META)
    given = f"set: [signals.path={images}, coding.prior_rank=8]"
    dictionary = f"{{name: 'NID, patches', config: tiny.yaml, {given}}}"
    whole = (
        f"{{name: NID whole, config: tiny.yaml, whole: true, set: [signals.path={images}, signals.patch=null, "
        "signals.stride=null, signals.size=12]}"
    )
    (folder / "images.yaml").write_text(
        f"task: images\nsides: [16, 20]\nlimit: 2\ntransforms: [4, 9]\n"
        f"dictionaries: [{dictionary}, {whole}]\n"
        f"baselines: [siren.yaml, meta.yaml]\nmeta_steps: [1, 2]\nlpips: false\nrun_dir: {folder}/runs\n"
    )
    (folder / "inpainting.yaml").write_text(
        f"task: inpainting\nside: 24\nlimit: 1\ndictionary: {dictionary}\ncorruptions: [box, text]\nkept: [0.5, 0.1]\n"
        f"baselines: [siren.yaml, meta.yaml]\nmeta_steps: 2\nlpips: false\nrun_dir: {folder}/runs\n"
    )
    (folder / "resolution.yaml").write_text(
        f"task: resolution\nsides: [24]\nlimit: 1\ndictionary: {dictionary}\nlpips: false\nrun_dir: {folder}/runs\n"
    )
    (folder / "whole.yaml").write_text(
        f"task: whole\nside: 16\nlimit: 1\ndictionary: {whole.replace('whole: true, ', '')}\nlpips: false\n"
        f"detail: [0, 8, 30]\nwidths: [4, 8]\nbaselines: [siren.yaml]\nseconds: 0.2\nrun_dir: {folder}/runs\n"
    )
    return folder
