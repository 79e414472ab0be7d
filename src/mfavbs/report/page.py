"""What a report shows comes in, the text of one HTML page goes out.

Every string that reaches the page passes through :func:`shown` and jinja2's escaping, in this
order: file names are the text of strangers.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mfavbs.report.shown import ReportData

MISSING = "–"

# Control characters, marks that turn the direction of the text around them, spaces without width,
# half surrogates: in a file name they hide what is there. Joiners, which scripts need, may stay.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ud800-\udfff"
    "\ufeff\ufff9-\uffff]"
)


def render(data: ReportData) -> str:
    """Set the page of a report.

    Parameters
    ----------
    data
        What :func:`mfavbs.report.data.collect` chose to show.

    Returns
    -------
    str
        A whole HTML document. Its Content-Security-Policy forbids everything but its own style
        sheet and images held in the page, so it can neither run a script nor ask the network.
    """
    folder = files(__package__)
    css = folder.joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode("utf-8")).digest()).decode("ascii")
    environment = Environment(
        autoescape=True,
        finalize=shown,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "base": base,
        "count": count,
        "decimal": decimal,
        "duration": duration,
        "per_cent": per_cent,
        "setting": setting,
    }
    template = environment.from_string(folder.joinpath("page.html").read_text(encoding="utf-8"))
    full = [cluster for cluster in data.clusters if cluster.size]
    by_size = sorted(full, key=lambda cluster: (-cluster.size, cluster.number))
    return template.render(
        data=data,
        css=Markup(css),
        css_hash=digest,
        curves=[curve(name, points) for name, points in data.losses.items() if points],
        number=curve("evidence", data.evidence) if len(data.evidence) > 1 else None,
        at=_place(data.evidence, data.chosen),
        heat=[[_shade(n, sum(row)) for n in row] for row in _counts(data)],
        labelled=any(cluster.label is not None for cluster in data.clusters),
        largest=max((cluster.size for cluster in data.clusters), default=0) or 1,
        empty=[cluster.number for cluster in data.clusters if not cluster.size],
        score_names=_score_names(data),
        map=Markup(data.map or ""),
        in_tree=[c.number for c in full] != [c.number for c in by_size],
        suggested=any(c.name is not None and not c.is_given for c in data.clusters),
    )


def shown(value: Any) -> Any:
    """Write characters that cannot be seen as escapes: a line feed becomes ``\\n``."""
    if value is None:
        return MISSING
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _INVISIBLE.sub(lambda match: ascii(match[0])[1:-1], value)


def base(path: str) -> str:
    """Return the last part of a path."""
    return path.rstrip("/").rpartition("/")[2] or path


def count(value: float | None) -> str:
    """Write a number of things: 3925 as 3,925."""
    return MISSING if value is None else f"{value:,.0f}"


def decimal(value: float | None, places: int = 3) -> str:
    """Write a number with a proper minus sign."""
    return MISSING if value is None else f"{value:.{places}f}".replace("-", "\N{MINUS SIGN}")


def per_cent(value: float) -> str:
    """Write a share: 0.1049 as 10.5 %, with a space that does not break."""
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def duration(seconds: float) -> str:
    """Write seconds as a person would say them: 41.2 s, 1 min 17 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f}\N{NO-BREAK SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}\N{NO-BREAK SPACE}min {rest}\N{NO-BREAK SPACE}s"
    return f"{minutes // 60}\N{NO-BREAK SPACE}h {minutes % 60:02d}\N{NO-BREAK SPACE}min"


def setting(value: Any) -> str:
    """Write a parameter: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class Curve:
    """One loss, drawn in a box of 240 by 80: `points` of its line, and what to write beside it."""

    name: str
    points: str
    first: float
    last: float
    low: float
    high: float
    epochs: tuple[float, float]


def curve(name: str, points: Sequence[tuple[float, float]]) -> Curve:
    """Scale a loss, points of (epoch, value), to its own range: losses differ in size and sign."""
    epochs = [epoch for epoch, _ in points]
    values = [value for _, value in points]
    left, right, low, high = min(epochs), max(epochs), min(values), max(values)
    width, height = (right - left) or 1.0, (high - low) or 1.0
    line = [
        f"{240 * (epoch - left) / width:.1f},{80 - 80 * (value - low) / height:.1f}"
        for epoch, value in points
    ]
    if len(line) == 1:
        line.append(f"240.0,{line[0].partition(',')[2]}")
    return Curve(name, " ".join(line), values[0], values[-1], low, high, (left, right))


def _place(points: Sequence[tuple[float, float]], chosen: int | None) -> str | None:
    """Where on the drawn curve the choice is, as ``x,y``."""
    places = curve("", points).points.split() if len(points) > 1 else []
    found = [place for place, (number, _) in zip(places, points) if number == chosen]
    return found[0] if found else None


def _counts(data: ReportData) -> list[list[int]]:
    return data.confusion.counts if data.confusion else []


def _shade(number: int, total: int) -> int:
    """Choose one of ten shades; any number above 0 has at least the first."""
    return -(-9 * number // total) if number else 0


def _score_names(data: ReportData) -> list[str]:
    names = {name for scores in data.scores.values() for name in scores}
    known = ["acc", "nmi", "ari"]
    return [name for name in known if name in names] + sorted(names - set(known))
