"""Imports of the package point downwards and in no circle; libraries of distributed training stay in their rooms."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import nid_dist

ROOT = Path(nid_dist.__file__).parent
# From top to bottom: a file imports from its own floor and those below. The longest pattern that fits a file counts.
FLOORS = (
    ("__init__",),
    ("cli.*",),
    ("benchmarks.*",),
    ("comparison.*",),
    ("training.*",),
    ("tasks.*",),
    ("tasks.base", "tasks.registry", "baselines.*", "export", "evaluation.*", "planning.*"),
    ("fitting", "checkpoints.*"),
    ("model",),
    ("coding.*", "measurements.*", "objectives"),
    ("dictionary.*",),
    ("parallel.*",),
    ("data.*", "config.*", "tasks.*.config"),
    (
        "samples",
        "code",
        "compact.*",
        "conjugate_gradients",
        "detail.*",
        "merging.*",
        "device",
        "graphs",
        "precision",
        "coordinate_grid",
        "files",
        "memory",
        "progress",
        "errors",
    ),
)
ROOMS = {
    "torch.distributed": ("parallel.*", "checkpoints.storage", "benchmarks.stock_layers"),
    "deepspeed": ("parallel.*", "benchmarks.stock_layers"),
    "fairscale": ("parallel.*", "benchmarks.stock_layers"),
    "mpi4py": ("parallel.*",),
}
# These import what a string names, when it is needed: the front door and the registry from above, too.
BY_NAME = {"__init__", "config", "tasks.registry"}


def test_nothing_is_imported_from_above() -> None:
    assert not [(file, other) for file, others in imports().items() for other in others if floor(file) > floor(other)]
    names = {(file, name) for file, tree in trees().items() for name, _ in imported(tree)}
    assert {file for file, name in names if name in ("importlib", "importlib.import_module")} == BY_NAME


def test_no_file_imports_itself_through_others() -> None:
    # For types alone, two files may know each other: neither has to be there first.
    edges = imports(types=False)
    closed: set[str] = set()

    def visit(file: str, path: tuple[str, ...]) -> None:
        assert file not in path, " -> ".join([*path[path.index(file) :], file])
        if file not in closed:
            for other in edges[file]:
                visit(other, (*path, file))
            closed.add(file)

    for file in edges:
        visit(file, ())


def test_distributed_libraries_stay_in_their_rooms() -> None:
    outside = [
        (file, name)
        for file, tree in trees().items()
        for name, _ in imported(tree)
        for library, rooms in ROOMS.items()
        if f"{name}.".startswith(f"{library}.") and not any(fits(file, room) for room in rooms)
    ]
    assert not outside


def test_the_floor_of_a_file() -> None:
    floors = {file: FLOORS[floor(file)][0] for file in ("tasks.ct.config", "tasks.ct.task", "tasks.base", "code")}
    assert list(floors.values()) == ["data.*", "tasks.*", "tasks.base", "samples"]


def test_what_counts_as_an_import() -> None:
    text = "if TYPE_CHECKING:\n    from a import b\ndef f():\n    import c.d\n    from e.f import g, h"
    assert list(imported(ast.parse(text))) == [("a.b", True), ("c.d", False), ("e.f.g", False), ("e.f.h", False)]


@cache
def trees() -> dict[str, ast.Module]:
    """The files of the package, by their dotted names below it; a room's own file is called like the room."""
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
    return {name.removesuffix(".__init__"): ast.parse(path.read_text()) for name, path in files.items()}


def imports(*, types: bool = True) -> dict[str, set[str]]:
    """Which files of the package each of them imports, inside functions too; `types`: and for annotations alone."""
    return {
        file: {found(name) for name, typed in imported(tree) if f"{name}.".startswith("nid_dist.") and types >= typed}
        for file, tree in trees().items()
    }


def imported(node: ast.AST, typed: bool = False) -> Iterator[tuple[str, bool]]:
    """The names that are imported, and whether under TYPE_CHECKING."""
    if isinstance(node, ast.Import):
        yield from ((name.name, typed) for name in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, "imports name the whole path"
        yield from ((f"{node.module}.{name.name}", typed) for name in node.names)
    typed = typed or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    for child in ast.iter_child_nodes(node):
        yield from imported(child, typed)


def found(name: str) -> str:
    """The file that an imported name is in."""
    name = name.removeprefix("nid_dist").removeprefix(".")
    while name and name not in trees():
        name = name.rpartition(".")[0]
    return name or "__init__"


def fits(file: str, pattern: str) -> bool:
    return fnmatchcase(file, pattern) or file == pattern.removesuffix(".*")


def floor(file: str) -> int:
    """The number of a file's floor, from the top."""
    fitting = {pattern: number for number, patterns in enumerate(FLOORS) for pattern in patterns if fits(file, pattern)}
    assert fitting, f"{file} has no floor"
    return fitting[max(fitting, key=len)]
