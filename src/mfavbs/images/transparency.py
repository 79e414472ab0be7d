"""In: an image of any mode of 8 bits. Out: mode RGB, what was transparent over paper."""

from PIL import Image, ImageStat

# From here on the ink is nearer to white paper than a quarter of all tones: it is put on black.
_LIGHT = 191


def on_paper(image: Image.Image) -> Image.Image:
    """Mode RGB; transparency over white, or over black where the ink itself is light.

    Which one is decided by the mean tone of the picture, weighted by its opacity, so that the same
    picture gets the same paper wherever it is.
    """
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    on_black = _over(image, "black")
    opacity = ImageStat.Stat(image.getchannel("A")).mean[0] / 255
    tone = ImageStat.Stat(on_black.convert("L")).mean[0]
    # A picture that is opaque all over shows no paper.
    return on_black if tone >= _LIGHT * opacity > 0 else _over(image, "white")


def _over(image: Image.Image, colour: str) -> Image.Image:
    paper = Image.new("RGBA", image.size, colour)
    return Image.alpha_composite(paper, image).convert("RGB")
