"""The one kind of error a user sees: what, where, found, expected, hint, in one line."""


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
        line = f"{where}: found {found}, expected {expected}; {hint}"
        super().__init__(" ".join(line.split()))
