"""What a configuration may hold, in words: from the JSON schema that pydantic makes of its models."""

import difflib
from collections.abc import Iterator
from typing import Any, TypeAlias

from pydantic import BaseModel

KeyPath: TypeAlias = tuple[str | int, ...]


def dotted(key: KeyPath) -> str:
    """Writes the path of a key as it is written after `--set`."""
    return ".".join(str(part) for part in key)


class Schema:
    """The keys of a configuration and the values that they take.

    Args:
        model: the root of the configuration.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        self.root: dict[str, Any] = model.model_json_schema()

    def at(self, key: KeyPath) -> dict[str, Any]:
        """The JSON schema of a key; empty where the schema has no such key."""
        here: dict[str, Any] = self.root
        for part in key:
            alternatives = [self._resolved(option) for option in here.get("anyOf", [here])]
            steps = (
                option.get("properties", {}).get(part) if isinstance(part, str) else self._item(option, part)
                for option in alternatives
            )
            here = self._resolved(next((step for step in steps if step is not None), {}))
        return here

    @staticmethod
    def _item(schema: dict[str, Any], index: int) -> dict[str, Any] | None:
        prefix = schema.get("prefixItems", [])
        return prefix[index] if index < len(prefix) else schema.get("items")

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        reference = schema.get("$ref")
        return schema if reference is None else self.root["$defs"][reference.rpartition("/")[2]]

    def describe(self, schema: dict[str, Any]) -> str:
        """Says in words what a JSON schema allows."""
        schema = self._resolved(schema)
        if "anyOf" in schema:
            return " or ".join(self.describe(option) for option in schema["anyOf"])
        if "enum" in schema:
            return "one of " + ", ".join(str(choice) for choice in schema["enum"])
        if "prefixItems" in schema:
            items = [self.describe(item) for item in schema["prefixItems"]]
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
                return f"a list{least}, each item {self.describe(schema.get('items', {}))}"
            case "object":
                keys = schema.get("properties")  # none: a section of any keys, as parallel.deepspeed is
                return f"a section with keys {', '.join(keys)}" if keys else "a section"
            case "string":
                return "a text"
        return "another value"

    def unknown(self, key: KeyPath) -> tuple[str, str, str]:
        """Found, expected and hint for a key that the schema lacks: the nearest name, or the section it belongs to."""
        section, name = key[:-1], str(key[-1])
        known = list(self.at(section).get("properties", {}))
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        elsewhere = [path for path in self._all_keys(self.root) if path[-1] == name]
        if near:
            hint = f"write {near[0]}"
        elif elsewhere:
            hint = f"write it as {dotted(elsewhere[0])}"
        else:
            hint = "remove it"
        return f"the unknown key {name}", f"one of {', '.join(known)}", hint

    def _all_keys(self, schema: dict[str, Any], at: KeyPath = ()) -> Iterator[KeyPath]:
        for name, below in schema.get("properties", {}).items():
            yield (*at, name)
            yield from self._all_keys(self._resolved(below), (*at, name))
