"""How far the random views of an image may go from it.

In: a name, as of ``--augment``. Out: the ranges that a view's crop, colour and turn are drawn from.
"""

from typing import NamedTuple

from mfavbs.errors import SourceError


class Ranges(NamedTuple):
    """What a random view is drawn from.

    Attributes
    ----------
    crop
        Smallest and largest part of the area. At 0.08, SimCLR's, many crops miss the object; MoCo
        begins at 0.2.
    jitter
        Factors of brightness, contrast and saturation.
    hue
        In turns of the colour circle.
    p_jitter, p_grey, p_flip
        Probabilities of the jitter, of grey, and of a flip to the left or right.
    degrees, translate, zoom
        Of the kind ``"shift"``: turn, move in parts of the edge, and scale.
    turns
        Whether a view is turned by any number of quarter turns and flipped up or down at last, by
        which no pixel is lost.
    """

    crop: tuple[float, float]
    jitter: tuple[float, float]
    hue: tuple[float, float]
    p_jitter: float
    p_grey: float
    p_flip: float
    degrees: tuple[float, float]
    translate: float
    zoom: tuple[float, float]
    turns: bool = False


# SimCLR, arXiv 2002.05709, appendix A, at strength 0.5, as Contrastive Clustering has it, with
# MoCo's crops. Raw pixels have no invariance of their own, so what is shifted must stay nearer to
# its image than others are: mean views then have 93 % of the digits' 20 nearest in their class;
# with 2 to 3 times this, 88 %.
_DEFAULT = Ranges(
    *((0.2, 1.0), (0.6, 1.4), (-0.1, 0.1), 0.8, 0.2, 0.5),
    *((-5.0, 5.0), 0.03, (0.97, 1.03)),
)
# Neither the direction nor the hue changes, and the scale little.
_GENTLE = Ranges(
    *((0.6, 1.0), (0.8, 1.2), (0.0, 0.0), 0.8, 0.0, 0.0),
    *((-2.5, 2.5), 0.015, (0.985, 1.015)),
)
# SimCLR at strength 1, the crops as well.
_STRONG = Ranges(
    *((0.08, 1.0), (0.2, 1.8), (-0.2, 0.2), 0.8, 0.2, 0.5),
    *((-10.0, 10.0), 0.06, (0.94, 1.06)),
)
AUGMENTS = {
    "none": _DEFAULT,  # no random view is drawn
    "gentle": _GENTLE,
    "default": _DEFAULT,
    "strong": _STRONG,
    "rotate": _DEFAULT._replace(turns=True),
}


def views_of(augment: str, n_views: int) -> int:
    """Views that an image has: with ``augment="none"`` the clean one alone.

    Raises
    ------
    SourceError
        There is no such ``augment``, or ``n_views`` is not a number of views.
    """
    if augment not in AUGMENTS:
        raise SourceError(f"augment={augment!r} should be one of {', '.join(AUGMENTS)}")
    if n_views < 1:
        raise SourceError(f"n_views={n_views} should be >= 1")
    return 1 if augment == "none" else n_views
