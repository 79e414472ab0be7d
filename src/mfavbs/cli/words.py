"""Arguments in a message, as the one who reads it gives them.

In: a message with Python's words, ``out=``. Out: the same with the command line's, ``--out``.
"""

import re
from collections.abc import Mapping
from typing import Any

_VALUE = r"""'[^']*'|"[^"]*"|[^\s,;:()'"]*[^\s,;:()'".]"""


def flags_of(group: Any) -> dict[str, str]:
    """The option of every parameter of every command of a group, by Python's name for it."""
    parameters = [p for command in group.commands.values() for p in command.params]
    return {p.name: p.opts[0] for p in parameters if p.param_type_name == "option"}


def as_options(message: str, flags: Mapping[str, str]) -> str:
    """Write ``weights=FILE`` as ``--weights FILE``, ``overwrite=True`` as ``--overwrite``."""
    names = "|".join(sorted(flags, key=len, reverse=True))

    def option(found: re.Match[str]) -> str:
        flag, value = flags[found[1]], (found[2] or "").strip("'\"")
        if value in ("None", "False"):
            return f"no {flag}"
        return flag if value in ("", "True") else f"{flag} {value}"

    # Not within a word or a path: a file may be called `seed=1.png`.
    return re.sub(rf"(?<![\w./\\'\"=-])({names})=({_VALUE})?", option, message)
