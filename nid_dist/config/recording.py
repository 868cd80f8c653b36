"""What a run records of its configuration: places that hold from any folder, and what may change while it goes on."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from nid_dist.config.schema import Config
from nid_dist.errors import UserError

Kind: TypeAlias = Literal["dictionary", "held out", "course", "free"]

# By the longest name that a key begins with. `dictionary`: what f is, what codes mean, and what both were trained as;
# a checkpoint of another one is of another dictionary. `held out`: which signals were never trained on. `course`: how
# training goes from here on. `free`: where, how long and how closely watched it runs, which no result depends on.
_KINDS: dict[str, Kind] = {
    "signals": "dictionary",
    "signals.val": "held out",
    "signals.test": "held out",
    "signals.path": "course",
    "signals.limit": "course",
    "signals.stride": "course",
    "signals.augment": "course",
    "signals.stretch": "course",
    "signals.turn": "course",
    "signals.procedural": "course",
    "signals.near_surface": "course",
    "signals.cache_mb": "free",
    "dictionary": "dictionary",
    "dictionary.strategy": "free",
    "dictionary.merge": "free",
    "dictionary.chunk_mb": "free",
    "coding": "course",
    "coding.support": "dictionary",
    "coding.gate": "dictionary",
    "coding.gate.noisy": "course",
    "objective": "course",
    "optimizer": "course",
    "optimizer.accumulation": "free",
    "training": "free",
    "training.batch": "course",
    "training.coordinates": "course",
    "training.seed": "course",
    "training.precision": "course",
    "parallel": "free",
    "logging": "free",
    "tomography": "dictionary",
    "tomography.views": "course",
    "tomography.photons": "course",
    "tomography.electronic": "course",
    "tomography.evaluated": "free",
}


class Change(NamedTuple):
    """A key whose value differs between two configurations."""

    key: str
    before: Any
    after: Any
    kind: Kind

    def __str__(self) -> str:
        """In words."""
        return f"{self.key} {_said(self.before)} -> {_said(self.after)}"


def recorded(config: Config) -> Config:
    """The configuration with its paths absolute, so that they lead to the same place wherever it is read."""
    signals, logging = config.signals, config.logging
    path = getattr(signals, "path", None)
    if path is not None:
        signals = signals.model_copy(update={"path": _absolute(path)})
    logging = logging.model_copy(update={"run_dir": _absolute(logging.run_dir)})
    return config.model_copy(update={"signals": signals, "logging": logging})


def changes(before: Config, after: Config) -> list[Change]:
    """What differs, key by key, wherever the two were read from; what matters most comes first."""
    one, other = (dict(_leaves(recorded(config).model_dump(mode="json"))) for config in (before, after))
    found = [
        Change(key, one.get(key), other.get(key), _kind(key))
        for key in dict.fromkeys([*one, *other])
        if one.get(key) != other.get(key)
    ]
    order = list(dict.fromkeys(_KINDS.values()))
    return sorted(found, key=lambda change: order.index(change.kind))


def require_same_dictionary(before: Config, after: Config, where: str, *, same_run: bool = True) -> list[Change]:
    """The changes of a configuration, where a training of `before` may go on with `after`.

    Args:
        where: what was trained with `before`.
        same_run: whether it is the same run that goes on, whose held-out signals must stay what they are.

    Raises:
        UserError: the dictionary would be another one, or signals that were held out would not be any more.
    """
    found = changes(before, after)
    refused = [each for each in found if each.kind == "dictionary" or (same_run and each.kind == "held out")]
    if refused:
        first, more = refused[0], f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise UserError(
            f"{where}: {first.key}",
            found=f"{_said(first.after)} in the configuration{more}",
            expected=f"{_said(first.before)}, which it was trained with",
            hint="set it as in the config.yaml of the run, or start a new run",
        )
    return found


def _absolute(path: str) -> str:
    short = os.path.abspath(path)
    # Behind a link `..` is another folder than it seems.
    return short if os.path.realpath(short) == os.path.realpath(path) else str(Path(path).absolute())


def _leaves(section: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict) and above + key != "parallel.deepspeed":
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield above + key, value


def _said(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _kind(key: str) -> Kind:
    parts = key.split(".")
    return next(_KINDS[name] for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in _KINDS)
