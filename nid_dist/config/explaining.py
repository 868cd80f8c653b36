"""From pydantic's complaints to one line of plain English: where, found, expected, hint."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from nid_dist.config.describing import KeyPath, Schema, dotted
from nid_dist.errors import UserError


@dataclass
class Origin:
    """Where each value came from."""

    file: str | None  # the configuration file, None without one
    lines: dict[KeyPath, int]  # the line of each key of the file
    overrides: dict[KeyPath, str]  # the text of the override that set a key
    schema: Schema  # what is allowed

    def describe(self, key: KeyPath) -> str:
        """Names the override, or the file and line, in which a key was set, and the key."""
        name = dotted(key)
        for override, text in reversed(self.overrides.items()):
            if override == key[: len(override)] or (key and key == override[: len(key)]):
                return text if override == key else f"{text}: {name}"
        place = self.file or "configuration"
        line = next((self.lines[key[:end]] for end in range(len(key), 0, -1) if key[:end] in self.lines), None)
        place = place if line is None else f"{place} line {line}"
        return f"{place}: {name}" if name else place


def explain(error: ValidationError, raw: dict[Any, Any], origin: Origin) -> UserError:
    """Turns the first of pydantic's complaints into a user's error and counts the others."""
    details = error.errors(include_url=False)
    keys = [_key_in(raw, detail["loc"], detail["type"], origin.schema) for detail in details]
    key, kind = keys[0], details[0]["type"]
    # A union complains once for each alternative: about the whole value, and about what is inside it.
    others = sum(not any(other[: len(one)] == one for other in set(keys) - {one}) for one in set(keys) - {key})
    where = origin.describe(key)
    if kind == "value_error":
        message, _, hint = details[0]["msg"].removeprefix("Value error, ").partition("; ")
        found, expected, hint = f"a contradiction: {message}", "settings that fit together", hint or "change one"
        where = next((text for set_key, text in origin.overrides.items() if dotted(set_key) in message), where)
    elif kind in ("extra_forbidden", "invalid_key"):
        found, expected, hint = origin.schema.unknown(key)
    elif kind == "missing" and key == details[0]["loc"]:
        found, expected, hint = "nothing", origin.schema.describe(origin.schema.at(key)), f"add {dotted(key)}"
    else:
        value = _value_at(raw, key)
        found, expected = show(value), origin.schema.describe(origin.schema.at(key))
        hint = _hint(key, value, origin.schema)
    return UserError(where, found=found, expected=expected, hint=hint + (f" (and {others} more)" if others else ""))


def find_swallowed_bool(raw: Any, config: Any, origin: Origin, at: KeyPath = ()) -> UserError | None:
    """Finds a true or false that pydantic took for the number 1 or 0: YAML reads a bare `on` or `no` as a boolean.

    `at` is the key of `raw`, empty for the whole.
    """
    if isinstance(raw, bool) and not isinstance(config, bool):
        return UserError(
            origin.describe(at),
            found=show(raw),
            expected=origin.schema.describe(origin.schema.at(at)),
            hint=_hint(at, raw, origin.schema),
        )
    pairs: Iterator[tuple[str | int, Any, Any]] = iter(())
    if isinstance(raw, dict) and isinstance(config, BaseModel):
        # Keys that an older version wrote are not all there.
        pairs = ((key, value, getattr(config, key)) for key, value in raw.items() if key in type(config).model_fields)
    elif isinstance(raw, list) and isinstance(config, list | tuple):
        pairs = ((index, value, config[index]) for index, value in enumerate(raw))
    errors = (find_swallowed_bool(value, made, origin, (*at, key)) for key, value, made in pairs)
    return next((error for error in errors if error is not None), None)


def show(value: Any) -> str:
    """Writes a value as YAML has it, shortened; what is inside a list or a section is not shown."""
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool | None) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _key_in(raw: Any, loc: KeyPath, kind: str, schema: Schema) -> KeyPath:
    """The part of pydantic's location that is in the file: the names of a union's alternatives are not."""
    key: KeyPath = ()
    here, chosen = raw, False
    for index, part in enumerate(loc):
        choice = schema.discriminator(key)
        if choice is not None and not chosen:
            chosen = True  # the location names the section's form next, which may be called like one of its keys
            continue
        chosen = False
        last = index == len(loc) - 1
        # A key that is not a text is named as one by the location.
        if last and kind == "invalid_key":
            key = (*key, part)
        elif isinstance(here, dict) and (part in here or (kind == "missing" and last)):
            here, key = here.get(part), (*key, part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here, key = here[part], (*key, part)
    if kind == "union_tag_invalid":
        choice = schema.discriminator(key)
        assert choice is not None
        return (*key, choice)
    return key


def _value_at(raw: Any, key: KeyPath) -> Any:
    for part in key:
        raw = raw[part]
    return raw


def _hint(key: KeyPath, value: Any, schema: Schema) -> str:
    if isinstance(value, bool):
        return f"change {dotted(key)} (YAML reads a bare yes, no, on or off as true or false: put a word in quotes)"
    if isinstance(value, str) and schema.describe(schema.at(key)).startswith(("a whole number", "a number")):
        return f"change {dotted(key)} (a plain number such as 20 or 0.001)"
    return f"change {dotted(key)}"
