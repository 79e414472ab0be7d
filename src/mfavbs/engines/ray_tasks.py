"""What a Ray process does: reads images and encodes them, as the engine of this machine would.

In: batches of rows, and what reads and encodes them, once for each process. Out: their parts.
"""

import functools
import io
import os
import platform
from collections.abc import Sequence
from typing import Any, NamedTuple

import ray
import torch

from mfavbs import __version__
from mfavbs.errors import EngineError, ImageError, SourceError
from mfavbs.features import Encoding, FeatureCache, ImageViews, Part, Work
from mfavbs.images import Images, content_hash, read_content

_ASKED = 16  # images among which one is looked for that can be read


class Job(NamedTuple):
    """What a process needs beside the rows.

    Attributes
    ----------
    dataset
        Reads an image.
    encoder
        And its size of a forward pass, and the views: as `torch.save` writes them.
    sample
        Row and hash of one image, which must be the same wherever it is read.
    node
        Where the cache of features is.
    """

    dataset: ImageViews
    encoder: bytes
    sample: tuple[int, str] | None
    node: str


def versions() -> dict[str, str]:
    """What has to be the same everywhere, or features would not be."""
    return {"mfavbs": __version__, "torch": torch.__version__}


def packed(work: Work, node: str) -> Job:
    """The job of some work; ``node`` is this one's id."""
    content = io.BytesIO()
    torch.save((work.encoding.encoder, work.encoding.size), content)
    return Job(work.dataset, content.getvalue(), _sample(work), node)


def _sample(work: Work) -> tuple[int, str] | None:
    for row in [row for batch in work.batches[:_ASKED] for row in batch][:_ASKED]:
        found = _hash_of(work.dataset, row)
        if found is not None:
            return row, found
    return None


def _hash_of(dataset: ImageViews, row: int) -> str | None:
    try:
        return content_hash(read_content(dataset.images, row, dataset.image_memory))
    except ImageError:
        return None


def read_and_encode(
    wanted: dict[str, str], job: list[Any], batches: Sequence[Sequence[int]]
) -> list[Part]:
    """Parts with features; views are drawn here."""
    dataset = _dataset(wanted, job)
    encoding = _encoding(job[0], torch.device("cpu"))
    return [encoding.encode(_part(dataset, rows)) for rows in batches]


def read(wanted: dict[str, str], job: list[Any], batches: Sequence[Sequence[int]]) -> list[Part]:
    """Parts without features, for a process that has a GPU."""
    dataset = _dataset(wanted, job)
    return [_part(dataset, rows) for rows in batches]


def encode(wanted: dict[str, str], job: list[Any], parts: list[Part]) -> list[Part]:
    """The same parts with features."""
    _check(wanted)
    encoding = _encoding(job[0], _device())
    return list(encoding.encoded(iter(parts)))


def _part(dataset: ImageViews, rows: Sequence[int]) -> Part:
    return Part([dataset[row] for row in rows])


def _check(wanted: dict[str, str]) -> None:
    if wanted != (found := versions()):

        def told(which: dict[str, str]) -> str:
            return ", ".join(f"{name} {version}" for name, version in which.items())

        raise EngineError(
            f"expected {told(wanted)} on every node of the Ray cluster, as here; "
            f"{platform.node()} has {told(found)}; install the same there"
        )


def _dataset(wanted: dict[str, str], job: list[Any]) -> ImageViews:
    _check(wanted)
    return _opened(job[0])[0]


@functools.lru_cache(1)
def _opened(job: Any) -> tuple[ImageViews, bytes]:
    """What reads, and the encoder; in a process once."""
    torch.set_num_threads(1)
    got: Job = ray.get(job)
    dataset = got.dataset
    if ray.get_runtime_context().get_node_id() != got.node:
        dataset.cache = FeatureCache()  # SQLite's files are not for several machines
    if got.sample is not None:
        _check_source(dataset, *got.sample)
    return dataset, got.encoder


def _check_source(dataset: ImageViews, row: int, expected: str) -> None:
    """Refuse to list as broken what this node does not see."""
    found = _hash_of(dataset, row)
    if found != expected:
        images: Images = dataset.images
        how = "cannot be read" if found is None else "is another file"
        raise SourceError(
            f"{images.keys[row]} {how} on the node {platform.node()} of the Ray cluster; put "
            f"{images.location or 'the images'} where all nodes find it under the same path, or "
            "give a URL (s3://, gs://, https://)"
        )


@functools.lru_cache(1)
def _encoding(job: Any, device: torch.device) -> Encoding:
    dataset, content = _opened(job)
    # From the process that was asked to encode, and not from a file.
    encoder, size = torch.load(io.BytesIO(content), map_location=device, weights_only=False)
    encoding = Encoding(encoder, dataset.views)
    encoding.size = size
    return encoding


def _device() -> torch.device:
    """The GPU that Ray gave this task; all of them are seen, for a process may get another."""
    given = [str(number) for number in ray.get_gpu_ids()]
    if not given:
        return torch.device("cpu")
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return torch.device("cuda", seen.split(",").index(given[0]) if seen else int(given[0]))
