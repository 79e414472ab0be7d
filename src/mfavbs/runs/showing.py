"""Images of a run to look at in a notebook, or as a list of paths elsewhere.

In: groups of images with their thumbnails. Out: an object that a notebook shows.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from mfavbs.runs.thumbnails import Thumbnail

_EDGE = 96  # pixels


class Group(NamedTuple):
    """Images under one caption: the path of each, and its thumbnail where there is one."""

    caption: str
    images: Sequence[tuple[str, Thumbnail | None]]


class Gallery:
    """Groups of images; a notebook shows their thumbnails, ``print`` their paths.

    Parameters
    ----------
    title
        Said above them.
    groups
        The images.
    """

    def __init__(self, title: str, groups: Sequence[Group]) -> None:
        self.title = title
        self.groups = list(groups)

    @property
    def paths(self) -> list[str]:
        """Paths of all images, in their order."""
        return [path for group in self.groups for path, _ in group.images]

    def __repr__(self) -> str:
        lines = [self.title]
        for caption, images in self.groups:
            lines += [f"{caption}:", *(f"  {ascii_safe(path)}" for path, _ in images)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [f"<div><b>{escape(ascii_safe(self.title))}</b></div>"]
        for caption, images in self.groups:
            tiles = "".join(tile(path, small) for path, small in images)
            parts.append(f"<div>{escape(caption)}</div><div>{tiles or 'none'}</div>")
        return "".join(parts)


class Drawing:
    """An SVG drawing that a notebook shows; ``str`` of it is the text.

    Parameters
    ----------
    svg
        An ``svg`` element.
    """

    def __init__(self, svg: str) -> None:
        self._svg = svg

    def __str__(self) -> str:
        return self._svg

    def _repr_html_(self) -> str:
        return f'<div style="max-width: 60rem">{self._svg}</div>'


def tile(path: str, small: Thumbnail | None, edge: int = _EDGE) -> str:
    """One image as HTML: its thumbnail, or its path where there is none."""
    said = escape(ascii_safe(path), quote=True)
    if small is None:
        return f"<code>{said}</code> "
    style = f"width: {edge}px; height: {edge}px; object-fit: cover; margin: 2px; display: inline"
    return f'<img src="{escape(small.uri)}" title="{said}" alt="{said}" style="{style}">'


def ascii_safe(text: str) -> str:
    """Text in which what cannot be seen is written as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
