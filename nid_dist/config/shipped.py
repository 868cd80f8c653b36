"""The configurations that come with the package, found by name: `quickstart`, `large/images_4096`, and so on."""

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from nid_dist.errors import UserError
from nid_dist.files import expanded


def find_config(name: str | Path, beside: Path | None = None) -> Path:
    """The file that a path, or the name of a shipped configuration, stands for.

    Args:
        name: a path, if a file is there; otherwise a name, with or without `configs/` and `.yaml`.
        beside: the folder that a relative path starts from; None: the working directory.

    Raises:
        UserError: there is neither; it tells the nearest names.
    """
    path = expanded(name) if beside is None else beside / expanded(name)
    root = Path(str(files("nid_dist") / "configs"))
    shipped = {file.relative_to(root).with_suffix("").as_posix(): file for file in sorted(root.rglob("*.yaml"))}
    words = str(name).removeprefix("configs/").removesuffix(".yaml")
    # A folder of photographs may well be called `images`.
    if path.is_file() or (path.exists() and words not in shipped):
        return path
    if words in shipped:
        return shipped[words]
    raise UserError(
        str(path),
        found="no such file",
        expected="a YAML configuration, or the name of one that comes with nid_dist",
        hint=f"check the path; the nearest names are {', '.join(get_close_matches(words, shipped, cutoff=0.0))}",
    )
