"""What every command that fits says of its results: how far to trust them."""

import warnings
from collections.abc import Mapping

from nid_dist.coding.judgement import Judgement

_MOST = 5  # warnings; more of them are only counted


def say_judged(judged: Mapping[str, Judgement], noun: str = "signal") -> None:
    """Print how well results are explained, of one in a line, of many in a summary; warn of those to doubt.

    Args:
        judged: by the inputs' names.
        noun: what an input is.

    Warns:
        UserWarning: where a result should not be trusted, and why.
    """
    doubted = [name for name, each in judged.items() if each.doubts]
    if len(judged) == 1:
        ((name, only),) = judged.items()
        print(f"{name}: {only.line}")
    elif judged:
        worst = max(judged, key=lambda name: judged[name].times or judged[name].residual)
        good = f"{len(judged) - len(doubted)} of {len(judged)} {noun}s are explained as they should be"
        if all(each.times is None for each in judged.values()):
            good = f"{len(judged)} {noun}s, and no validation data to judge them by"
        print(f"{good}; the worst, {worst}: {judged[worst].line}")
    for name in doubted[:_MOST]:
        warnings.warn(f"{name}: not to be trusted: {'; '.join(judged[name].doubts)}", stacklevel=2)
    if len(doubted) > _MOST:
        warnings.warn(f"nor are {len(doubted) - _MOST} more; results.json says why", stacklevel=2)
