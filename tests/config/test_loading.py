"""Reading a configuration: values, overrides, and what a person is told about a wrong one."""

from pathlib import Path

import pytest
import yaml

from nid_dist.config import Config, load_config
from nid_dist.errors import UserError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.yaml"


def message(path: Path | None, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def missing(text: str, fragments: list[str]) -> list[str]:
    return [fragment for fragment in fragments if fragment not in text]


def test_nothing_given_is_the_defaults() -> None:
    assert load_config(None) == Config()


@pytest.mark.parametrize("text", ["", "# only a comment\n", "{}", "signals:\ntraining:\n  # steps: 3\n"])
def test_an_empty_file_and_empty_sections_are_the_defaults(file: Path, text: str) -> None:
    file.write_text(text)
    assert load_config(file) == Config()


def test_values_of_a_file(file: Path) -> None:
    file.write_text(
        "signals:\n  source: folder\n  path: 'a b/ü'\n  patch: null\n  size: 64\n  val: [a*, b]\n"
        "optimizer: {lr: 1e-3, betas: [0.5, 9e-1], clip_norm: null}\n"
        "objective: &o {l1: 0.5}\n"
        "coding:\n  phases:\n  - mode: gate\n  gate: {noisy: on}\n",
        encoding="utf-8",
    )
    config = load_config(file)
    assert (config.signals.path, config.signals.patch, config.signals.val) == ("a b/ü", None, ["a*", "b"])
    # PyYAML reads 1e-3 (without a dot) as text.
    assert (config.optimizer.lr, config.optimizer.betas, config.optimizer.clip_norm) == (0.001, (0.5, 0.9), None)
    assert [(phase.mode, phase.share) for phase in config.coding.phases] == [("gate", 1.0)]
    assert config.coding.gate.noisy is True
    assert config.training == Config().training


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("training.steps=7", "training", "steps", 7),
        (" training . steps =7", "training", "steps", 7),
        ("optimizer.lr=1e-2", "optimizer", "lr", 0.01),
        ("training.steps=010", "training", "steps", 10),  # 8 to YAML 1.1
        ("logging.run_dir=0:10", "logging", "run_dir", "0:10"),  # 10 to it, as minutes and seconds
        ("signals.val=[a.png, 'b*']", "signals", "val", ["a.png", "b*"]),
        ("signals.val=1e-1", "signals", "val", 0.1),
        ("signals.stride=null", "signals", "stride", None),
        ("signals.path=a=b.c", "signals", "path", "a=b.c"),
        ("signals.path=", "signals", "path", None),
        ("signals.augment=yes", "signals", "augment", True),
        ("logging.run_dir='5'", "logging", "run_dir", "5"),
        ("optimizer.betas.1=0.5", "optimizer", "betas", (0.9, 0.5)),
        ("signals={patch: 8}", "signals", "patch", 8),
    ],
)
def test_an_override(override: str, section: str, key: str, value: object) -> None:
    assert getattr(getattr(load_config(None, [override]), section), key) == value


def test_overrides_go_over_the_file_in_their_order(file: Path) -> None:
    file.write_text("dictionary:\n  width: 32\n  encoding: {features: 8}\n")
    config = load_config(
        file,
        [
            "dictionary.encoding.scale=5",
            "dictionary.encoding.scale=6",
            "coding.phases.0.mode=gate",
            "coding.phases.1.share=2",
        ],
    )
    assert (config.dictionary.width, config.dictionary.encoding.features, config.dictionary.encoding.scale) == (
        32,
        8,
        6,
    )
    # The list comes from the defaults: solve for 0.7, then distill for 0.3.
    assert [(phase.mode, phase.share) for phase in config.coding.phases] == [("gate", 0.7), ("distill", 2.0)]
    assert file.read_text() == "dictionary:\n  width: 32\n  encoding: {features: 8}\n"


def test_an_override_mends_what_the_file_has_wrong(file: Path) -> None:
    file.write_text("training: {steps: -1}")
    assert load_config(file, ["training.steps=3"]).training.steps == 3


FILES = [
    ("- a", ["c.yaml", "a list", "the sections signals, dictionary"]),
    ("hello", ["c.yaml", "a single value"]),
    ("a: [1, 2\nb: 3", ["c.yaml line 2 column 2", "expected ',' or ']'"]),
    ("a: 'x", ["c.yaml line 1 column", "unexpected end of stream"]),
    ("signals:\n\tpatch: 3", ["c.yaml line 2 column 1", "spaces instead of tabs"]),
    ("signals:\n  patch: 3\n size: 4", ["c.yaml line 3 column", "not YAML"]),
    ("training: {}\n---\ntraining: {}", ["c.yaml line 2", "another document"]),
    ("signals:\n  path: \x01", ["c.yaml line 2 column 9", "special characters"]),
    ("a: !!python/object/apply:os.getcwd []", ["c.yaml line 1 column 4", "python/object", "only plain values"]),
    ("? [a]\n: b", ["c.yaml line 1", "unhashable key"]),
    ("signals: {path: 2024-13-01}", ["c.yaml", "month must be in 1..12", "quotes"]),
    ("a: *b", ["c.yaml line 1", "undefined alias"]),
    ("training:\n  steps: 3\n  seed: 1\n  steps: 4", ["line 4: training.steps", "a second time (first in line 2)"]),
    ("training: {}\nsignals: {}\ntraining: {}", ["line 3: training:", "first in line 1"]),
    ("coding:\n  phases:\n  - {mode: gate, mode: solve}", ["line 3: coding.phases.0.mode", "a second time"]),
    ("[" * 3000, ["c.yaml", "YAML"]),
    ("a: &a\n  b: *a", ["contain themselves"]),
    ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]", ["unknown key a", "(and 2 more)"]),
]


@pytest.mark.parametrize(("text", "fragments"), FILES, ids=[repr(text)[:30] for text, _ in FILES])
def test_a_file_that_is_not_a_configuration(file: Path, text: str, fragments: list[str]) -> None:
    file.write_text(text)
    assert missing(message(file), fragments) == []


def test_a_file_that_is_not_text(file: Path) -> None:
    file.write_bytes(b"\x89PNG\xff\xfe")
    assert missing(message(file), ["c.yaml", "not text", "UTF-8"]) == []


def test_no_file(tmp_path: Path) -> None:
    assert missing(message(tmp_path / "no.yaml"), ["no.yaml", "no such file"]) == []
    assert missing(message(tmp_path), [str(tmp_path), "is a directory"]) == []


OVERRIDES = [
    ("training.steps", ["no `=`", "section.key=value"]),
    ("=3", ["an empty name"]),
    ("training..steps=3", ["an empty name"]),
    ("training.steps=[1", ["not YAML", "quotes"]),
    ("training.step=5", ["the unknown key step", "write steps"]),
    ("trainig.steps=5", ["the unknown key trainig", "write training"]),
    ("training.steps=0", ["found 0", "a whole number above 0"]),
    ("training.steps=1:30", ['found "1:30"', "a whole number above 0"]),
    ("coding.phases.5.mode=gate", ["5 inside coding.phases, which has 2 items"]),
    ("coding.phases.first.mode=gate", ["'first' inside coding.phases, which is a list", "number of an item"]),
    ("training.steps.0=1", ["0 inside training.steps", "not a list"]),
    ("training.steps.most=1", ["'most' inside training.steps, which is a single value"]),
    ("0.steps=1", ["0 inside the configuration"]),
    ("training=5", ["found 5", "a section with keys steps, max_seconds"]),
]


@pytest.mark.parametrize(("override", "fragments"), OVERRIDES, ids=[override for override, _ in OVERRIDES])
def test_a_wrong_override_is_named(file: Path, override: str, fragments: list[str]) -> None:
    file.write_text("training: {steps: 5}")
    text = message(file, override)
    assert text.startswith(f"override {override}: ")
    assert missing(text, fragments) == []


def test_the_default_configuration_comes_back() -> None:
    assert yaml.safe_load(Config().to_yaml())["optimizer"]["betas"] == [0.9, 0.999]
    assert list(yaml.safe_load(Config().to_yaml())) == list(Config.model_fields)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["optimizer.lr=1e-7", "optimizer.betas=[0, 0.1]", "coding.ridge=1.0e-300", "dictionary.omega=1e+17"],
        ["signals.val=['no', '1', '0.5', 'null', '1e-3', 'a: b', '*', 'ü é', '  x ', \"tab\\tline\\nend\"]"],
        ["logging.run_dir='off'", "signals.path='~'", "training.max_seconds=0.1"],
        ["coding.phases=[{mode: solve}, {mode: gate, share: 0.1}]", "signals.test=0.3333333333333333"],
        [f"signals.path='{'long name ' * 40}'"],
    ],
)
def test_what_is_written_is_read_back_exactly(file: Path, overrides: list[str]) -> None:
    config = load_config(None, overrides)
    file.write_text(config.to_yaml(), encoding="utf-8")
    again = load_config(file)
    assert again == config
    assert again.model_dump() == config.model_dump()
