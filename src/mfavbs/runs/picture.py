"""The map of a run as a drawing: a point for each image, a picture for each cluster.

In: places (n, 2), clusters (n,), a picture and a name of each cluster. Out: SVG text that needs
nothing beside it.
"""

import colorsys
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from mfavbs.runs.thumbnails import Thumbnail

WIDTH, HEIGHT = 2000, 1400
POINTS = 20_000  # drawn; of more, a sample
_MARGIN = 90
_COVERED = (0.16, 0.3)  # share of the drawing that pictures may cover, with names and without
_EDGES = (44, 150)  # of a picture, at least and at most
_NAMED = 40  # clusters up to which names are written
_ROUNDS = 300


def colour(cluster: int) -> str:
    """A colour for a cluster, near numbers far apart, for light and dark paper."""
    hue = cluster * 0.381966 % 1  # the golden angle
    lightness = (0.42, 0.54, 0.48)[cluster % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.62)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def draw_map(
    places: np.ndarray,
    clusters: np.ndarray,
    pictures: Mapping[int, Thumbnail],
    names: Sequence[str | None],
    *,
    links: bool = True,
) -> str:
    """Draw a map.

    Parameters
    ----------
    places
        (n, 2) from :func:`mfavbs.insight.map_images`.
    clusters
        (n,) cluster numbers.
    pictures
        Of the middle image of a cluster, as far as there is one.
    names
        (k,) what is written below the pictures, where there are no more than 40.
    links
        Whether a picture leads to ``#cluster-N``.

    Returns
    -------
    str
        An ``svg`` element. Colours of text and paper are left to the style sheet around it.
    """
    found = np.unique(clusters).tolist()
    points = _on_paper(places)
    middles = np.array([np.median(points[clusters == number], axis=0) for number in found])
    is_named = len(found) <= _NAMED
    covered = _COVERED[not is_named] * WIDTH * HEIGHT
    edge = int(np.clip((covered / max(1, len(found))) ** 0.5, *_EDGES))
    room = edge * np.array([1.5, 1.34] if is_named else [1.1, 1.1])
    boxes = _apart(middles.reshape(-1, 2), room)
    marks: list[str] = []  # over all else
    parts = [_dots(points, clusters, number) for number in found]
    for number, middle, box in zip(found, middles, boxes, strict=True):
        called = f"{number} {names[number] or ''}".strip()
        mark = _mark(box, edge, colour(number), pictures.get(number), called, is_named)
        marks.append(f'<a href="#cluster-{number}">{mark}</a>' if links else mark)
        if np.abs(middle - box).max() > edge / 2:
            parts.append(_tie(middle, box, colour(number)))
    about = f"Map of {len(clusters):,} images in {len(found)} clusters"
    kind = "map" if is_named else "map many"
    box_of_all = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{about}"'
    return f'<svg class="{kind}" {box_of_all}>{"".join([*parts, *marks])}</svg>'


def _on_paper(places: np.ndarray) -> np.ndarray:
    """(n, 2) in units of the drawing; what is no number lies in the middle."""
    x = np.nan_to_num(np.asarray(places, np.float64))
    low, high = x.min(0, initial=0), x.max(0, initial=0)
    size = np.array([WIDTH, HEIGHT]) - 2 * _MARGIN
    return _MARGIN + (x - low) / np.maximum(high - low, 1e-9) * size


def _dots(points: np.ndarray, clusters: np.ndarray, number: int) -> str:
    """A cluster's points as one path, of strokes without length and round ends."""
    rows = np.flatnonzero(clusters == number)
    step = max(1, -(-len(clusters) // POINTS))
    line = "".join(f"M{x} {y}h0" for x, y in points[rows[::step]].round().astype(int).tolist())
    width = 12 if len(clusters) <= 2_000 else 8 if len(clusters) <= 10_000 else 6
    style = f'stroke="{colour(number)}" stroke-width="{width}" stroke-linecap="round"'
    return f'<path class="dots" d="{line}" fill="none" {style} stroke-opacity="0.75"/>'


def _apart(middles: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Places (c, 2) for boxes of that size, near their middles and not over one another."""
    boxes = middles.copy()
    low, high = room / 2, np.array([WIDTH, HEIGHT]) - room / 2
    order = np.arange(len(boxes))
    for _ in range(_ROUNDS):
        boxes = boxes.clip(low, high)
        gap = boxes[:, None] - boxes[None]  # (c, c, 2)
        overlap = room - np.abs(gap)
        over = (overlap > 0).all(-1) & (order[:, None] != order)
        if not over.any():
            break
        # Along the axis of the lesser overlap; which way equal ones go, their order says.
        axis = overlap.argmin(-1)
        way = np.sign(np.take_along_axis(gap, axis[..., None], -1)[..., 0])
        way = np.where(way == 0, np.sign(order[:, None] - order), way)
        push = (
            0.5 * way * np.where(over, np.take_along_axis(overlap, axis[..., None], -1)[..., 0], 0)
        )
        for at in range(2):
            boxes[:, at] += np.where(axis == at, push, 0).sum(1).clip(-room[at], room[at]) * 0.7
    return boxes.clip(low, high)


def _tie(middle: np.ndarray, box: np.ndarray, tint: str) -> str:
    """A line from the middle of a cluster's points to its picture."""
    ends = "L".join(f"{x:.0f} {y:.0f}" for x, y in (middle, box))
    return f'<path d="M{ends}" fill="none" stroke="{tint}" stroke-width="5"/>'


def _mark(
    box: np.ndarray,
    edge: int,
    tint: str,
    picture: Thumbnail | None,
    called: str,
    is_named: bool,
) -> str:
    """A cluster's picture, with its name below."""
    x, y = (box - edge / 2).round().astype(int).tolist()
    square = f'x="{x}" y="{y}" width="{edge}" height="{edge}"'
    frame = f'<rect {square} fill="{tint}" stroke="{tint}" stroke-width="{max(6, edge // 14)}"/>'
    image = text = ""
    if picture is not None:
        fit = 'preserveAspectRatio="xMidYMid slice"'
        image = f'<image {square} {fit} href="{escape(picture.uri)}"/>'
    if is_named:
        place = f'x="{x + edge // 2}" y="{y + edge + 34}" text-anchor="middle"'
        text = f"<text {place}>{escape(_short(called))}</text>"
    return f"{frame}{image}{text}<title>{escape(called)}</title>"


def _short(text: str, limit: int = 22) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
