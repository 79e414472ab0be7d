"""Parts through the encoder.

In: parts with views, or with what they are drawn from. Out: the same parts, in order, with features
(b, v, t, d) float16.

On an accelerator the next part is copied there and begun while the one before is computed, and the
one before that is on its way back: nothing waits but for the slowest of them.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mfavbs.devices import is_out_of_memory, on_device
from mfavbs.encoders import CombinedEncoder, Encoder
from mfavbs.errors import EncoderError
from mfavbs.features.parts import Part, forward_size
from mfavbs.images import ELEMENTS, Views, views_of_bases

_BEGUN = 2  # parts that an accelerator has been given and has not given back

T = TypeVar("T")


class Encoding:
    """An encoder at work, in portions that its device has the memory for.

    Parameters
    ----------
    encoder
        On its device.
    views
        Of the images.
    """

    def __init__(self, encoder: Encoder | CombinedEncoder, views: Views) -> None:
        self.encoder = encoder
        self.views = views
        self.size = forward_size(encoder)  # views in a forward pass
        self.most = ELEMENTS  # numbers in the arrays that views are drawn with
        self.device = encoder.device
        cuda = self.device.type == "cuda"
        self._copying = torch.cuda.Stream(self.device) if cuda else None

    def encoded(self, parts: Iterator[Part]) -> Iterator[Part]:
        """Each part with its features; raises `EncoderError` for those float16 cannot hold."""
        begun: deque[tuple[Part, Callable[[], None]]] = deque()
        for part in parts:
            begun.append((part, self._begin(part)))
            if len(begun) > (0 if self.device.type == "cpu" else _BEGUN):
                yield _finished(*begun.popleft())
        while begun:
            yield _finished(*begun.popleft())

    def encode(self, part: Part) -> Part:
        """One part at once."""
        return _finished(part, self._begin(part))

    def _begin(self, part: Part) -> Callable[[], None]:
        """Have it computed; what is returned waits for that."""
        if part.views is None and part.bases is None:
            return lambda: None
        features, arrived = self._sent_back(self._with_what_memory_there_is(part))
        part.views = part.bases = None

        def finish() -> None:
            arrived()
            self._check(part, features)
            part.features = features.numpy()

        return finish

    @torch.inference_mode()
    def _with_what_memory_there_is(self, part: Part) -> Tensor:
        while True:
            try:
                return self._features(part)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.size == 1:
                    raise EncoderError(
                        f"{self.device} has too little memory for one image of "
                        f"{self.encoder.image_size} pixels in {self.encoder.name}: end what else "
                        "uses it, or choose device='cpu', a smaller image_size= or another encoder="
                    ) from error
            # Out of the handler, whose traceback holds the tensors.
            self.size, self.most = max(1, self.size // 2), self.most // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _features(self, part: Part) -> Tensor:
        """(b, v, t, d) float16, on the device."""
        if part.views is not None:
            views = on_device(part.views, self.device)
        else:
            assert part.bases is not None
            pixels = self._sent(torch.as_tensor(part.bases.pixels))
            sizes, numbers = part.bases.sizes, part.bases.numbers
            s, framing = self.encoder.image_size, self.views.framing
            views = views_of_bases(pixels, sizes, numbers, s, framing, self.most)
        tokens = self._tokens(views.flatten(0, 1))
        return tokens.unflatten(0, views.shape[:2]).half()

    def _tokens(self, views: Tensor) -> Tensor:
        tokens = []
        for chunk in views.split(self.size):  # (b, 3, s, s)
            n_missing = self.size - len(chunk)
            padded = F.pad(chunk, (0, 0, 0, 0, 0, 0, 0, n_missing)) if n_missing else chunk
            tokens.append(self.encoder(padded)[: len(chunk)])  # (b, t, d)
        return torch.cat(tokens)

    def _sent(self, pixels: Tensor) -> Tensor:
        """Copied to the device beside what it computes."""
        if self._copying is None:
            return on_device(pixels, self.device)
        with torch.cuda.stream(self._copying):
            there = on_device(pixels, self.device)
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self._copying)
        there.record_stream(computing)  # its memory is not free before that
        return there

    def _sent_back(self, features: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """Where they will be, and what waits until they are."""
        if self._copying is None:
            return features.cpu(), lambda: None
        here = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
        here.copy_(features, non_blocking=True)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self.device))
        return here, event.synchronize

    def _check(self, part: Part, features: Tensor) -> None:
        good = np.isfinite(features.flatten(1).numpy()).all(1).tolist()
        if not all(good):
            wrong = {text for text, fine in zip(part.hashes, good) if not fine}
            bad = [seen.key for seen in part.seen if seen.hash in wrong]
            raise EncoderError(
                f"expected features within float16's range (±65504), {self.encoder.name} gives "
                f"larger ones or NaN for {', '.join(bad[:3])}"
                f"{' and others' if len(bad) > 3 else ''}; "
                "check weights=, or choose another encoder="
            )


def _finished(part: Part, finish: Callable[[], None]) -> Part:
    finish()
    return part


def ahead(pool: Executor, items: Iterator[T], n: int) -> Iterator[T]:
    """Items that are made in another thread, up to n of them before they are asked for.

    Parameters
    ----------
    pool
        Of one thread.
    items
        None of them is None.
    n
        How many.
    """
    asked: deque[Future[T | None]] = deque(pool.submit(next, items, None) for _ in range(n))
    while (item := asked.popleft().result()) is not None:
        asked.append(pool.submit(next, items, None))
        yield item
