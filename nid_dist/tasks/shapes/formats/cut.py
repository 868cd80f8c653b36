"""Text that does not say how many lines it has: whether its last one was cut."""

from pathlib import Path

from nid_dist.errors import doubt

_LIKE_IT = 8  # lines, of fewer of which nothing is said


def doubt_cut(path: Path, text: str) -> None:
    """Warn of a last line without its end that is shorter than all others that begin like it.

    Warns:
        DoubtfulMeaning: of a transfer that broke off, or a disk that was full.
    """
    before, _, last = text.rpartition("\n")
    words = last.split()
    if not words:
        return
    kind = words[0] if words[0].isalpha() else ""
    alike = [len(line.rstrip()) for line in before.split("\n") if _begins(line, kind)]
    if len(alike) >= _LIKE_IT and len(last.rstrip()) < min(alike):
        doubt(
            str(path),
            found=f"a last line without its end, {last.strip()[:40]!r}, shorter than all others",
            taken_as="all that was meant",
            hint="copy the file again if it broke off",
        )


def _begins(line: str, kind: str) -> bool:
    """Whether a line begins with a word, or (none) with a number."""
    words = line.split(maxsplit=1)
    return bool(words) and (words[0] == kind if kind else not words[0][0].isalpha() and words[0][0] not in "#/")
