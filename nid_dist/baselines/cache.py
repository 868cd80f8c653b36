"""Weights that were trained before, found again if the same configuration trained them."""

import json
from pathlib import Path
from typing import TypeAlias

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from nid_dist.errors import UserError
from nid_dist.files import replacing

Weights: TypeAlias = dict[str, Tensor]


def keep(path: Path, weights: Weights, facts: dict[str, str]) -> None:
    """Write weights, and the facts that they depend on.

    Raises:
        UserError: when they cannot be written.
    """
    with replacing(path) as temporary:
        save_file(weights, temporary, {"facts": json.dumps(facts)})


def found_again(path: Path, facts: dict[str, str], what: str) -> Weights:
    """Read weights that must have been kept with these facts, or with these and more.

    `what` they are: "initialisation", "auto-decoder".

    Raises:
        UserError: when the file is damaged, or another configuration has learned them.
    """
    try:
        with safe_open(path, "pt") as file:
            stored = json.loads(file.metadata()["facts"])
        weights: Weights = load_file(path)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            str(path),
            found=f"a damaged file ({error})",
            expected=f"a learned {what}",
            hint="move it away, and it is learned again",
        ) from None
    if any(stored.get(key) != value for key, value in facts.items()):
        raise UserError(
            str(path),
            found=f"an {what} learned by another configuration",
            expected="this one's",
            hint="move it away, or choose another run_dir",
        )
    return weights
