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
_COVERED = 0.16  # share of the drawing that pictures may cover
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
    edge = int(np.clip((_COVERED * WIDTH * HEIGHT / max(1, len(found))) ** 0.5, *_EDGES))
    is_named = len(found) <= _NAMED
    room = np.array([edge * (1.5 if is_named else 1.12), edge * (1.34 if is_named else 1.12)])
    boxes = _apart(middles.reshape(-1, 2), room)
    parts = [_dots(points, clusters, number) for number in found]
    for number, middle, box in zip(found, middles, boxes, strict=True):
        name = names[number] if is_named else None
        mark = _mark(number, middle, box, edge, pictures.get(number), name)
        parts.append(f'<a href="#cluster-{number}">{mark}</a>' if links else mark)
    about = f"Map of {len(clusters):,} images in {len(found)} clusters"
    return (
        f'<svg class="map" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{about}">'
        f"{''.join(parts)}</svg>"
    )


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


def _mark(
    number: int,
    middle: np.ndarray,
    box: np.ndarray,
    edge: int,
    picture: Thumbnail | None,
    name: str | None,
) -> str:
    """A cluster's picture, or its number, tied to the middle of its points."""
    x, y = (box - edge / 2).round().astype(int).tolist()
    tint = colour(number)
    line = ""
    if np.abs(middle - box).max() > edge / 2:
        ends = "L".join(f"{a:.0f} {b:.0f}" for a, b in (middle, box))
        line = f'<path d="M{ends}" fill="none" stroke="{tint}" stroke-width="5"/>'
    square = f'x="{x}" y="{y}" width="{edge}" height="{edge}"'
    frame = f'<rect {square} fill="{tint}" stroke="{tint}" stroke-width="{max(6, edge // 14)}"/>'
    image = ""
    if picture is not None:
        fit = 'preserveAspectRatio="xMidYMid slice"'
        image = f'<image {square} {fit} href="{escape(picture.uri)}"/>'
    title = f"<title>{number}{escape(f' {name}' if name else '')}</title>"
    said = _short(f"{number} {name}" if name else str(number))
    across = x + edge / 2
    text = f'<text x="{across:.0f}" y="{y + edge + 34}" text-anchor="middle">{escape(said)}</text>'
    if edge < _EDGES[1] / 2:  # no room below: the number alone, over the picture
        text = f'<text class="over-it" x="{x + 4}" y="{y + edge - 6}">{number}</text>'
    return f"{line}{frame}{image}{text}{title}"


def _short(text: str, limit: int = 22) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
