"""Reading one image of a source: what came of it, and what is to be encoded of it.

In: a row. Out: an :class:`Item` with its views, or with the base that a device draws them from.
"""

from collections.abc import Mapping

import numpy as np

from mfavbs.errors import ImageError
from mfavbs.features.cache import FeatureCache
from mfavbs.features.parts import Item
from mfavbs.features.pieces import Seen
from mfavbs.images import Images, Range, Views, content_hash, decode, look_of, read_content


class ImageViews:
    """Row -> item: what came of one image, and its views.

    Parameters
    ----------
    images, views, value_range, image_memory
        What is read, how its views are drawn and how it is decoded.
    known
        Content hash -> note, of contents whose features are had already: these are not decoded.
    cache
        Nor are those that it has.
    drawn_here
        Whether views are drawn; else the device that encodes draws them, from their bases.
    """

    def __init__(
        self,
        images: Images,
        views: Views,
        value_range: Range | None,
        image_memory: int,
        known: Mapping[str, str | None],
        cache: FeatureCache,
        *,
        drawn_here: bool = True,
    ) -> None:
        self.images = images
        self.views = views
        self.value_range = value_range
        self.image_memory = image_memory
        self.known = known
        self.cache = cache
        self.drawn_here = drawn_here

    def __getitem__(self, row: int) -> Item:
        return self.item(row)

    def item(self, row: int, *, cached: bool = True) -> Item:
        """What came of one image; decoded, unless ``cached``, even if the cache has it."""
        key = self.images.keys[row]
        stat = self.images.stat(row)
        try:
            stat, content = self._of_one_moment(row)
            digest = content_hash(content)
            if digest in self.known:
                return Item(Seen(key, *stat, digest, None, self.known[digest]), None)
            if cached and self.cache.find(digest):
                return Item(Seen(key, *stat, digest, None), None, cached=True)
            notes: list[str] = []
            image = decode(
                content,
                self.views.enough,
                name=key,
                value_range=self.value_range,
                image_memory=self.image_memory,
                notes=notes,
            )
            seen = Seen(key, *stat, digest, None, "; ".join(notes) or None)
            draw = self.views if self.drawn_here else self.views.base
            return Item(seen, draw(image, digest), look=look_of(image, content, key))
        except ImageError as error:
            return Item(Seen(key, *stat, None, str(error)), None)

    def _of_one_moment(self, row: int) -> tuple[tuple[int, float], bytes | np.ndarray]:
        """The content, and the size and time that it had all the while it was read."""
        for _ in range(2):
            stat = self.images.stat(row)
            content = read_content(self.images, row, self.image_memory)
            if self.images.stat(row) == stat:
                return stat, content
        raise ImageError("it changes while it is read; run again when it is whole")
