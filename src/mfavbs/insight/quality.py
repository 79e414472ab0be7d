"""What is wrong with a picture as such: too dark, blurred, tiny, without content.

In: looks (n,) from :mod:`mfavbs.images.looks`. Out: words for each image.
"""

import numpy as np

# Of 1,500 photographs, tiny pictures, surfaces and places from above none is so but for its shape;
# blurred by 2 % of its edge nearly each photograph is.
_BLACK = 40  # 99 of 100 pixels are darker
_WHITE = 220  # 99 of 100 pixels are brighter
_LEVELS = 16  # between the darkest and the brightest hundredth: fewer show nothing
_BLURRED = 0.6
_TINY = 32  # pixels of the shorter edge, where most images are at least twice as large
_LONG = 3.0  # times as long as wide
FLAGS = ("nearly black", "nearly white", "no content", "blurred", "tiny", "long and narrow")


def flag_pictures(looks: np.ndarray) -> list[list[str] | None]:
    """Say what is wrong with each picture.

    Parameters
    ----------
    looks
        (n,) of the type :data:`mfavbs.images.LOOK`.

    Returns
    -------
    list
        For each image words of :data:`FLAGS`; None where it was not looked at.
    """
    known = looks["width"] > 0
    sizes = np.stack([looks["width"], looks["height"]]).astype(float)
    shorter, longer = sizes.min(0), sizes.max(0)
    usual = np.median(shorter[known]) if known.any() else 0.0
    darkest, brightest = (looks[name].astype(int) for name in ("darkest", "brightest"))
    black, white = brightest < _BLACK, darkest > _WHITE
    wrong = np.stack(  # in the order of FLAGS
        [
            black,
            white,
            (brightest - darkest < _LEVELS) & ~black & ~white,
            looks["blur"] > _BLURRED,
            (shorter < _TINY) & (2 * shorter <= usual),
            longer > _LONG * shorter,
        ],
        axis=1,
    )
    return [
        [name for name, so in zip(FLAGS, row) if so] if seen else None
        for row, seen in zip(wrong.tolist(), known.tolist())
    ]
