"""How the number of clusters was found, as insight.json has it.

In: its object ``k``. Out: a sentence, and the evidence for each number that was tried.
"""

from collections.abc import Mapping


def sentence_of(about: object) -> str | None:
    """What is said of the number of clusters, where it was looked for."""
    said = about.get("sentence") if isinstance(about, Mapping) else None
    return said if isinstance(said, str) else None


def evidence_of(about: object) -> list[tuple[int, float]]:
    """What speaks for each number of clusters that was tried."""
    curve = about.get("curve") if isinstance(about, Mapping) else None
    if not isinstance(curve, Mapping):
        return []
    pairs = zip(curve.get("numbers") or [], curve.get("evidence") or [], strict=False)
    known = [(number, value) for number, value in pairs]
    return [(int(number), value) for number, value in known if isinstance(value, int | float)]
