"""From pydantic's complaints to one line of plain English: where, found, expected, mend."""

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError

from nid_dist.config.schema import Config
from nid_dist.errors import UserError

KeyPath: TypeAlias = tuple[str | int, ...]
_SCHEMA = Config.model_json_schema()


@dataclass
class Origin:
    """Where each value came from.

    Attributes:
        file: the configuration file, None without one.
        lines: the line of each key of the file.
        overrides: the text of the override that set a key.
    """

    file: str | None
    lines: dict[KeyPath, int]
    overrides: dict[KeyPath, str]

    def of(self, key: KeyPath) -> str:
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
    """Turns the first of pydantic's complaints into a user's error and counts the others.

    Args:
        error: what pydantic raised.
        raw: what it was given.
        origin: where that came from.

    Returns:
        The error, in one line.
    """
    details = error.errors(include_url=False)
    keys = [_key_in(raw, detail["loc"], detail["type"]) for detail in details]
    key, kind = keys[0], details[0]["type"]
    # A union complains once for each alternative: about the whole value, and about what is inside it.
    others = sum(not any(other[: len(one)] == one for other in set(keys) - {one}) for one in set(keys) - {key})
    where = origin.of(key)
    if kind == "value_error":
        message, _, mend = details[0]["msg"].removeprefix("Value error, ").partition("; ")
        found, expected, mend = f"a contradiction: {message}", "settings that fit together", mend or "change one"
        where = next((text for set_key, text in origin.overrides.items() if dotted(set_key) in message), where)
    elif kind in ("extra_forbidden", "invalid_key"):
        found, expected, mend = _unknown(key)
    elif kind == "missing" and key == details[0]["loc"]:
        found, expected, mend = "nothing", _describe(_schema_at(key)), f"add {dotted(key)}"
    else:
        value = _value_at(raw, key)
        found, expected = show(value), _describe(_schema_at(key))
        mend = _mend(key, value)
    return UserError(where, found=found, expected=expected, mend=mend + (f" (and {others} more)" if others else ""))


def find_swallowed_bool(raw: Any, config: Any, origin: Origin, at: KeyPath = ()) -> UserError | None:
    """Finds a true or false that pydantic took for the number 1 or 0: YAML reads a bare `on` or `no` as a boolean.

    Args:
        raw: what was given.
        config: what pydantic made of it.
        origin: where the values came from.
        at: the key of `raw`, empty for the whole.

    Returns:
        The error, or None when there is none.
    """
    if isinstance(raw, bool) and not isinstance(config, bool):
        return UserError(origin.of(at), found=show(raw), expected=_describe(_schema_at(at)), mend=_mend(at, raw))
    pairs: Iterator[tuple[str | int, Any, Any]] = iter(())
    if isinstance(raw, dict) and isinstance(config, BaseModel):
        pairs = ((key, value, getattr(config, key)) for key, value in raw.items())
    elif isinstance(raw, list) and isinstance(config, list | tuple):
        pairs = ((index, value, config[index]) for index, value in enumerate(raw))
    errors = (find_swallowed_bool(value, made, origin, (*at, key)) for key, value, made in pairs)
    return next((error for error in errors if error is not None), None)


def dotted(key: KeyPath) -> str:
    """Writes the path of a key as it is written after `--set`."""
    return ".".join(str(part) for part in key)


def show(value: Any) -> str:
    """Writes a value as YAML has it, shortened; what is inside a list or a section is not shown."""
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool | None) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _key_in(raw: Any, loc: KeyPath, kind: str) -> KeyPath:
    """The part of pydantic's location that is in the file: the names of a union's alternatives are not."""
    if kind == "invalid_key":  # a key that is not a text, which the location names as one
        return loc
    key: KeyPath = ()
    here = raw
    for index, part in enumerate(loc):
        if isinstance(here, dict) and (part in here or (kind == "missing" and index == len(loc) - 1)):
            here, key = here.get(part), (*key, part)
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here, key = here[part], (*key, part)
    return key


def _value_at(raw: Any, key: KeyPath) -> Any:
    for part in key:
        raw = raw[part]
    return raw


def _schema_at(key: KeyPath) -> dict[str, Any]:
    """The JSON schema of a key; empty where the schema has no such key."""
    here: dict[str, Any] = _SCHEMA
    for part in key:
        alternatives = [_resolved(option) for option in here.get("anyOf", [here])]
        steps = (
            option.get("properties", {}).get(part) if isinstance(part, str) else _item(option, part)
            for option in alternatives
        )
        here = _resolved(next((step for step in steps if step is not None), {}))
    return here


def _item(schema: dict[str, Any], index: int) -> dict[str, Any] | None:
    prefix = schema.get("prefixItems", [])
    return prefix[index] if index < len(prefix) else schema.get("items")


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return schema if reference is None else _SCHEMA["$defs"][reference.rpartition("/")[2]]


def _describe(schema: dict[str, Any]) -> str:
    """Says in words what a JSON schema allows."""
    schema = _resolved(schema)
    if "anyOf" in schema:
        return " or ".join(_describe(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(str(choice) for choice in schema["enum"])
    if "prefixItems" in schema:
        items = [_describe(item) for item in schema["prefixItems"]]
        same = items[0] if len(set(items)) == 1 else ", ".join(items)
        return f"a list of {len(items)}, each item {same}"
    match schema.get("type"):
        case "integer" | "number" as kind:
            bounds = [
                f"{word} {schema[bound]:g}"
                for bound, word in (
                    ("exclusiveMinimum", "above"),
                    ("minimum", "at least"),
                    ("exclusiveMaximum", "below"),
                    ("maximum", "at most"),
                )
                if bound in schema
            ]
            return " ".join(["a whole number" if kind == "integer" else "a number", " and ".join(bounds)]).strip()
        case "boolean":
            return "true or false"
        case "null":
            return "null"
        case "array":
            least = f" of at least {schema['minItems']}" if "minItems" in schema else ""
            return f"a list{least}, each item {_describe(schema.get('items', {}))}"
        case "object":
            keys = schema.get("properties")  # none: a section of any keys, as parallel.deepspeed is
            return f"a section with keys {', '.join(keys)}" if keys else "a section"
        case "string":
            return "a text"
    return "another value"


def _unknown(key: KeyPath) -> tuple[str, str, str]:
    """Found, expected and mend for a key that the schema lacks: the nearest name, or the section it belongs to."""
    section, name = key[:-1], str(key[-1])
    known = list(_schema_at(section).get("properties", {}))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    elsewhere = [path for path in _all_keys(_SCHEMA) if path[-1] == name]
    if near:
        mend = f"write {near[0]}"
    elif elsewhere:
        mend = f"write it as {dotted(elsewhere[0])}"
    else:
        mend = "remove it"
    return f"the unknown key {name}", f"one of {', '.join(known)}", mend


def _all_keys(schema: dict[str, Any], at: KeyPath = ()) -> Iterator[KeyPath]:
    for name, below in schema.get("properties", {}).items():
        yield (*at, name)
        yield from _all_keys(_resolved(below), (*at, name))


def _mend(key: KeyPath, value: Any) -> str:
    if isinstance(value, bool):
        return f"change {dotted(key)} (YAML reads a bare yes, no, on or off as true or false: put a word in quotes)"
    if isinstance(value, str) and _describe(_schema_at(key)).startswith(("a whole number", "a number")):
        return f"change {dotted(key)} (a plain number such as 20 or 0.001)"
    return f"change {dotted(key)}"
