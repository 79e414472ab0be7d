"""Features of a few images at once, without a store: what a service answers with.

In: the undecoded contents of images. Out: their features (b, v, t, d), as a store would have them.
"""

from collections.abc import Sequence

import numpy as np

from mfavbs.encoders import CombinedEncoder, Encoder
from mfavbs.features.cache import FeatureCache
from mfavbs.features.embedding import DRAWN_BY_WORKERS
from mfavbs.features.encoding import Encoding
from mfavbs.features.parts import Part, batch_size
from mfavbs.features.reading import ImageViews
from mfavbs.images import IMAGE_MEMORY, Images, Range, Views, not_empty


class Contents(Images):
    """Images that are in memory as the bytes of their files."""

    kind = "contents"

    def __init__(self, contents: Sequence[tuple[str, bytes]]) -> None:
        super().__init__("", (name for name, _ in contents))
        self._contents = [content for _, content in contents]

    def stat(self, row: int) -> tuple[int, float]:
        return len(self._contents[row]), 0.0

    def read(self, row: int) -> bytes:
        return not_empty(self._contents[row])


class DirectEncoding:
    """An encoder that answers at once, in this process.

    Parameters
    ----------
    encoder
        On its device.
    views
        Of the images.
    value_range, image_memory
        As in :func:`mfavbs.embed`.
    """

    def __init__(
        self,
        encoder: Encoder | CombinedEncoder,
        views: Views,
        value_range: Range | None,
        image_memory: int = IMAGE_MEMORY,
    ) -> None:
        self._encoding = Encoding(encoder, views)
        self._how = (views, value_range, image_memory)
        self._drawn_here = encoder.device.type in DRAWN_BY_WORKERS
        self._step = batch_size(encoder, views.n_views)

    def __call__(
        self, contents: Sequence[tuple[str, bytes]]
    ) -> tuple[np.ndarray | None, list[str | None]]:
        """Encode a few images.

        Parameters
        ----------
        contents
            (name, bytes) of each; the name's suffix may decide how it is decoded.

        Returns
        -------
        features, reasons
            (b, v, t, d) float16 of those that could be read, in their order, or None; and for each
            image why it could not be read, or None.
        """
        images = Contents(contents)
        reading = ImageViews(images, *self._how, {}, FeatureCache(), drawn_here=self._drawn_here)
        items = [reading.item(row) for row in range(len(images))]
        good = [item for item in items if item.views is not None]
        made = []
        for start in range(0, len(good), self._step):
            part = self._encoding.encode(Part(good[start : start + self._step]))
            assert part.features is not None, "every item of it has views"
            made.append(part.features)
        return np.concatenate(made) if made else None, [item.seen.reason for item in items]
