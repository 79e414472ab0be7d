"""What had better be changed before a run is begun, in sentences.

In: what the run will take, and what is asked for. Out: advice, what stops the run first.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mfavbs.foretelling import Plan, duration, size
from mfavbs.training import END_TO_END, FROZEN

_FEW = 10  # images of a cluster, below which hardly five of them are asked as neighbours
_LONG = 3600.0  # seconds of encoding from which on other ways are named
_VIEWS = 2  # the fewest of which pairs can be made
_SMALL = "timm:mobilenetv2_100"
_LOST = 0.02  # share of images that cannot be read, from which on it is said


def advise(
    plan: Plan, n: int, k: int, asked: Mapping[str, Any], seen: Mapping[str, Any]
) -> list[str]:
    """What to change, in sentences that name parameters as Python has them.

    Parameters
    ----------
    plan
        All but its advice.
    n, k
        Images that can be read, about, and clusters, supposed where they are to be found.
    asked
        Every parameter of the run.
    seen
        Shares ``readable`` and ``cached``, and how many images the output folder ``had``; empty
        where the source is features.
    """
    return [
        *_of_room(plan),
        *_of_clusters(plan, n, k),
        *_of_time(plan, asked),
        *_of_images(plan, seen),
    ]


def _of_room(plan: Plan) -> Iterator[str]:
    if plan.disk_meanwhile > plan.disk_free:
        yield (
            f"The disk is too small: {size(plan.disk_meanwhile)} are needed while the run is made, "
            f"{size(plan.disk_free)} are free where it is to lie. Make room, choose an out= on "
            "another disk, or fewer n_views=."
        )
    if plan.memory > plan.memory_machine:
        yield (
            f"The memory is too small: about {size(plan.memory)} are needed, the machine has "
            f"{size(plan.memory_machine)}. Choose fewer n_views=, or a smaller grid=."
        )


def _of_clusters(plan: Plan, n: int, k: int) -> Iterator[str]:
    if isinstance(plan.n_clusters, int) and n < _FEW * k:
        most = n // _FEW
        instead = f"n_clusters={most} or fewer" if most > 1 else f"{_FEW * k:,} images or more"
        yield (
            f"{n:,} images are few for {k:,} clusters, {n / k:.1f} each: an image learns from its "
            f"nearest ones, at most half of a cluster. Below about {_FEW} each the clusters depend "
            f"on chance; expected {instead}, or n_clusters='auto'."
        )


def _of_time(plan: Plan, asked: Mapping[str, Any]) -> Iterator[str]:
    on_cpu = plan.device == "cpu"
    encoding = plan.seconds.get("features", 0.0)
    if encoding > _LONG:
        ways = ["a machine with a GPU"] if on_cpu else []
        if asked["n_views"] > _VIEWS:
            less = duration(encoding * _VIEWS / asked["n_views"])
            ways.append(f"n_views={_VIEWS}, about {less}")
        if str(asked["encoder"]) != _SMALL and on_cpu:
            ways.append(f"a smaller encoder, as encoder='{_SMALL}'")
        if asked["image_size"] is None:
            ways.append("a smaller image_size=, where the encoder takes one")
        ways.append("engine='ray' on several machines")
        yield f"The encoder is slow here: {duration(encoding)}. Quicker: {'; '.join(ways)}."
    if asked["train"] == END_TO_END and on_cpu:
        took = duration(plan.seconds["from pixels"])
        yield (
            f"There is no GPU here: training from pixels takes {took}. train={FROZEN}, the "
            "default, trains on the features alone."
        )


def _of_images(plan: Plan, seen: Mapping[str, Any]) -> Iterator[str]:
    if seen.get("had"):
        yield f"The features of {seen['had']:,} images are in the output folder already."
    if seen.get("cached"):
        yield f"The cache has the features of about {seen['cached']:.0%} of the others."
    if seen.get("readable", 1.0) < 1 - _LOST:
        lost = f"{1 - seen['readable']:.0%}"
        yield f"About {lost} of the images cannot be read; failures.csv will say why."
