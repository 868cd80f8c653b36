"""From a YAML file and overrides to a checked configuration, and back."""

import copy
import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from nid_dist.config.describing import KeyPath, Schema, dotted
from nid_dist.config.explaining import Origin, explain, find_swallowed_bool
from nid_dist.config.shipped import find_config
from nid_dist.errors import UserError
from nid_dist.files import expanded

Root = TypeVar("Root", bound=BaseModel)

_LONGEST = 400_000  # characters of a file
_DEEPEST = 100  # brackets within each other
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}
_MOST = 200_000  # values in all, each alias counted as what it stands for


class _Loader(yaml.SafeLoader):
    """Plain values, without two of YAML 1.1's that nobody means: 010 for 8, and 1:30 for 90."""


def _number(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """A number, or the words that YAML 1.1 would count to the base of 8 or 60."""
    text = loader.construct_scalar(node)
    if ":" in text or re.fullmatch(r"[-+]?0[0-7_]+", text):
        return text
    return loader.construct_yaml_int(node) if node.tag.endswith("int") else loader.construct_yaml_float(node)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _number)


def load_as(root: type[Root], path: str | Path | None, overrides: Sequence[str] = ()) -> Root:
    """Reads a configuration file, applies the overrides in their order and checks everything.

    Args:
        root: the model of the whole file.
        path: a YAML file with its sections, or (a string) the name of a shipped one; None: the defaults.
        overrides: `section.key=value`, value in YAML; lists are indexed by number (`coding.phases.0.mode=gate`).

    Raises:
        UserError: the file or an override cannot be read, or a value is not allowed; one line with the first reason.
    """
    path = find_config(path) if isinstance(path, str) else path and expanded(path)
    raw, lines = ({}, {}) if path is None else _read(path, root)
    # A section whose keys are all commented out is a section of defaults.
    raw = {key: value for key, value in raw.items() if value is not None or key not in root.model_fields}
    origin = Origin(None if path is None else str(path), lines, {}, Schema(root, raw))
    for override in overrides:
        key, value = _parse_override(override)
        _put(raw, key, value, override, origin.schema)
        origin.overrides[key] = f"override {override}"
    try:
        config = root.model_validate(raw)
    except ValidationError as error:
        raise explain(error, raw, origin) from None
    swallowed = find_swallowed_bool(raw, config, origin)
    if swallowed is not None:
        raise swallowed
    return config


def _read(path: Path, root: type[BaseModel]) -> tuple[dict[Any, Any], dict[KeyPath, int]]:
    """The content of a YAML file, and the line of each key."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            str(path), found="no such file", expected="a YAML configuration", hint="check the path (see configs/)"
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            str(path), found=f"that reading failed ({reason})", expected="a YAML configuration", hint="check the path"
        ) from None
    except UnicodeDecodeError:
        raise UserError(
            str(path), found="bytes that are not text", expected="a YAML configuration in UTF-8", hint="check the path"
        ) from None
    lines: dict[KeyPath, int] = {}
    try:
        document, content = _parsed(text)
        if document is not None:
            _collect_lines(document, (), lines, str(path), set())
    except yaml.YAMLError as error:
        raise _syntax_error(str(path), text, error) from None
    except (ValueError, RecursionError) as error:  # such as the date 2024-13-01
        raise UserError(
            str(path), found=f"a value that YAML cannot read ({error})", expected="YAML", hint="put it in quotes"
        ) from None
    if content is not None and not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "a single value"
        raise UserError(
            str(path),
            found=kind,
            expected=f"the sections {', '.join(root.model_fields)}",
            hint="write `section:` with its keys indented below it",
        )
    return content or {}, lines


def _parsed(text: str) -> tuple[yaml.Node | None, Any]:
    """The nodes of a YAML text and their values, none of which contains itself, nor all of them far more than is there.

    Raises:
        ValueError: when they do.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"{len(text)} characters, where {_LONGEST} are enough for any")
    # The parser's time grows with the square of the depth.
    if max(accumulate(_STEPS.get(letter, 0) for letter in text), default=0) > _DEEPEST:
        raise ValueError(f"lists and sections {_DEEPEST} deep and more")
    loader = _Loader(text)
    try:
        document = loader.get_single_node()
        if document is None:
            return None, None
        if _size(document, {}) >= _MOST:
            raise ValueError("aliases (*name) that contain themselves or repeat far too much")
        return document, loader.construct_document(document)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, aliases counted as often as they are used."""
    if id(node) not in known:
        known[id(node)] = _MOST  # of what is met again below itself
        below = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = (part for each in below for part in (each if isinstance(each, tuple) else (each,)))
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def _collect_lines(node: yaml.Node, at: KeyPath, lines: dict[KeyPath, int], file: str, seen: set[int]) -> None:
    """Notes where each key stands, and refuses a key that stands twice: YAML would silently take the last."""
    if id(node) in seen:  # an alias; it may even contain itself
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*at, index)] = item.start_mark.line + 1
            _collect_lines(item, (*at, index), lines, file, seen)
    elif isinstance(node, yaml.MappingNode):
        own: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                here = (*at, key.value)
                if key.value in own:
                    raise UserError(
                        f"{file} line {line}: {dotted(here)}",
                        found=f"the key a second time (first in line {own[key.value]})",
                        expected="each key once",
                        hint="remove one of the two",
                    )
                own[key.value] = lines[here] = line
                _collect_lines(value, here, lines, file, seen)


def _syntax_error(where: str, text: str, error: yaml.YAMLError) -> UserError:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    mark = getattr(error, "problem_mark", None)
    place = where
    if mark is not None:
        place = f"{where} line {mark.line + 1} column {mark.column + 1}"
    elif isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        place = f"{where} line {before.count(chr(10)) + 1} column {len(before) - before.rfind(chr(10))}"
    hint = "correct that line; texts with special characters need quotes"
    if "\\t" in problem:
        hint = "indent with spaces instead of tabs"
    elif "could not determine a constructor" in problem:
        hint = "remove the tag; only plain values are read"
    return UserError(place, found=f"text that is not YAML ({problem})", expected="YAML", hint=hint)


def _parse_override(override: str) -> tuple[KeyPath, Any]:
    name, separator, text = override.partition("=")
    parts = [part.strip() for part in name.split(".")]
    if not separator or not all(parts):
        raise UserError(
            f"override {override}",
            found="no `=`" if not separator else "an empty name",
            expected="section.key=value",
            hint="write for example training.steps=500",
        )
    try:
        _, value = _parsed(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(
            f"override {override}",
            found=f"a value that is not YAML ({problem})",
            expected="a value as in the YAML file",
            hint="put the value in quotes, for the shell and for YAML",
        ) from None
    return tuple(int(part) if re.fullmatch(r"\d+", part) else part for part in parts), value


def _put(raw: dict[Any, Any], key: KeyPath, value: Any, override: str, schema: Schema) -> None:
    """Sets a value in nested sections; sections on the way that the file leaves out are made, lists from defaults."""
    here: Any = raw
    for depth, part in enumerate(key):
        before = dotted(key[:depth])
        if isinstance(part, int) and not isinstance(here, list):
            raise _not_inside(override, f"{before or 'the configuration'}, which is not a list", "a key", part)
        if isinstance(here, list):
            if not isinstance(part, int):
                raise _not_inside(override, f"{before}, which is a list", "the number of an item", part)
            if part >= len(here):
                raise _not_inside(override, f"{before}, which has {len(here)} items", "an item that exists", part)
        elif not isinstance(here, dict):
            raise _not_inside(override, f"{before}, which is a single value", "a section", part)
        if depth == len(key) - 1:
            here[part] = value
            return
        if isinstance(here, dict) and here.get(part) is None:
            default = schema.at(key[: depth + 1]).get("default")
            here[part] = {} if default is None or isinstance(default, dict) else copy.deepcopy(default)
        here = here[part]


def _not_inside(override: str, found: str, expected: str, part: str | int) -> UserError:
    return UserError(
        f"override {override}",
        found=f"{part!r} inside {found}",
        expected=expected,
        hint="check the name before the `=`",
    )
