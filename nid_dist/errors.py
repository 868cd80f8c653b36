"""What a user sees of inputs that cannot be taken, or hardly mean what they say: one line each."""

import warnings


class UserError(Exception):
    """An error that a user can cause and correct; the command line prints it as one line and exits with 2.

    Args:
        where: the file, config key or option the error is about.
        found: what was found there.
        expected: what was expected instead.
        hint: what to do about it, as an imperative ("choose ...", "remove ...").
    """

    def __init__(self, where: str, *, found: str, expected: str, hint: str) -> None:
        self.where, self.found, self.expected, self.hint = where, found, expected, hint
        super().__init__(" ".join(f"{where}: found {found}, expected {expected}; {hint}".split()))

    def replace(self, words: str, others: str) -> None:
        """Say something else of the same, wherever it is said."""
        self.where, self.found, self.expected, self.hint = (
            text.replace(words, others) for text in (self.where, self.found, self.expected, self.hint)
        )
        self.args = (str(self).replace(words, others),)


class DoubtfulMeaning(UserWarning):
    """What an input says can be read, but hardly means what it is taken for.

    Args:
        line: what is shown.
        cause: the same for all inputs of which the same is doubted; a command shows one line of each.
    """

    def __init__(self, line: str, cause: str = "") -> None:
        super().__init__(line)
        self.cause = cause or line


class SkippedFiles(UserWarning):
    """What the listing of a folder has left out; a command says it at its end."""


def doubt(where: str, *, found: str, taken_as: str, hint: str, stacklevel: int = 2) -> None:
    """Warn, in one line, of an input whose meaning is doubtful; the work goes on.

    Args:
        where: the file, config key or option the warning is about.
        found: what was found there.
        taken_as: what it is now taken as.
        hint: what to do if it means something else, as an imperative.
        stacklevel: as of `warnings.warn`, for the caller of this function.
    """
    line = " ".join(f"{where}: found {found}, taken as {taken_as}; {hint}".split())
    warnings.warn(DoubtfulMeaning(line, " ".join(f"{taken_as}; {hint}".split())), stacklevel=stacklevel + 1)
