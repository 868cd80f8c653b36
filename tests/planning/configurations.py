"""Configurations of a few experts, of which some keys are changed."""

from typing import Any

from nid_dist.config.schema import Config
from nid_dist.planning.cost import step_messages
from nid_dist.planning.run import Run


def configuration(changes: dict[str, Any]) -> Config:
    """Small sizes, with changes such as {"coding.support": 4}."""
    values: dict[str, Any] = {
        "dictionary.experts": 8,
        "dictionary.width": 5,
        "dictionary.private_width": 4,
        "dictionary.encoding.features": 6,
        "coding.support": 3,
        "coding.gate.width": 4,
        "coding.ridge": 0.1,
        "training.batch": 8,
    } | changes
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.split(".")
        here = nested
        for part in path:
            here = here.setdefault(part, {})
        here[last] = value
    return Config.model_validate(nested)


def sent_bytes(run: Run, *arguments: Any) -> dict[str, int]:
    """What the messages of a step add up to, as `Traffic.bytes` counts it: the kinds that are sent at all."""
    sent: dict[str, int] = {}
    for kind, size in step_messages(run, *arguments):
        sent[kind] = sent.get(kind, 0) + size
    return sent
