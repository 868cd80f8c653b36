"""What a configuration may hold, in words: from the JSON schema that pydantic makes of its models."""

import difflib
from collections.abc import Iterator
from typing import Any, TypeAlias

from pydantic import BaseModel

KeyPath: TypeAlias = tuple[str | int, ...]


def dotted(key: KeyPath) -> str:
    """Writes the path of a key as it is written in an override."""
    return ".".join(str(part) for part in key)


class Schema:
    """The keys of a configuration and the values that they take.

    `raw`, which was given and may change later, says what a section is that has several forms.
    """

    def __init__(self, model: type[BaseModel], raw: dict[Any, Any] | None = None) -> None:
        self.root: dict[str, Any] = model.model_json_schema()
        self._raw = {} if raw is None else raw

    def at(self, key: KeyPath) -> dict[str, Any]:
        """The JSON schema of a key; empty where the schema has no such key."""
        here, given = self._reach(key)
        return self._forms(here, given)[0] if "discriminator" in here else here

    def discriminator(self, key: KeyPath) -> str | None:
        """The key that says which form a section has; None for a section of a single form."""
        name: str | None = self._reach(key)[0].get("discriminator", {}).get("propertyName")
        return name

    def _reach(self, key: KeyPath) -> tuple[dict[str, Any], Any]:
        """The schema of a key as it is written, and what was given there."""
        here: dict[str, Any] = self.root
        given: Any = self._raw
        for part in key:
            choice = here.get("discriminator", {})
            if part == choice.get("propertyName"):
                here = {"enum": list(choice["mapping"])}
            else:
                steps = (self._step(form, part) for form in self._forms(here, given))
                here = self._resolved(next((step for step in steps if step is not None), {}))
            given = given.get(part) if isinstance(given, dict) else None
        return here, given

    def _forms(self, schema: dict[str, Any], given: Any = None) -> list[dict[str, Any]]:
        """What a value can be: of a section of several forms, first the one that was given, else the default."""
        choice = schema.get("discriminator")
        if choice is None:
            return [self._resolved(option) for option in schema.get("anyOf", [schema])]
        name, mapping = choice["propertyName"], choice["mapping"]
        tag = given.get(name) if isinstance(given, dict) else None
        if not isinstance(tag, str) or tag not in mapping:
            tag = schema["default"][name]
        return [self._resolved({"$ref": form}) for form in dict.fromkeys([mapping[tag], *mapping.values()])]

    def _step(self, schema: dict[str, Any], part: str | int) -> dict[str, Any] | None:
        step: dict[str, Any] | None
        step = schema.get("properties", {}).get(part) if isinstance(part, str) else self._item(schema, part)
        return step

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
        known = list(
            next((form["properties"] for form in self._forms(*self._reach(section)) if "properties" in form), {})
        )
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        choice = self._reach(section)[0].get("discriminator", {"mapping": {}})
        others = [
            tag
            for tag, form in choice["mapping"].items()
            if name in self._resolved({"$ref": form}).get("properties", {})
        ]
        elsewhere = [path for path in self._all_keys(self.root) if path[-1] == name]
        if others:
            hint = f"remove it, or set {dotted((*section, choice['propertyName']))} to {' or '.join(others)}"
        elif near:
            hint = f"write {near[0]}"
        elif elsewhere:
            hint = f"write it as {dotted(elsewhere[0])}"
        else:
            hint = "remove it"
        return f"the unknown key {name}", f"one of {', '.join(known)}", hint

    def _all_keys(self, schema: dict[str, Any], at: KeyPath = ()) -> Iterator[KeyPath]:
        for form in self._forms(schema):
            for name, below in form.get("properties", {}).items():
                yield (*at, name)
                yield from self._all_keys(self._resolved(below), (*at, name))
