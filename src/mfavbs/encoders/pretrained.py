"""A pretrained network by its name in timm or open_clip, without its classifier or its text side.

In: a name, perhaps a file of weights and an image size. Out: its tower, and how its input is made.
"""

import contextlib
import difflib
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import PIL.Image
from torch import nn

from mfavbs.encoders.towers import OpenClipTower, TimmTower, fuse_batch_norms
from mfavbs.encoders.weights import (
    fetch_weights,
    fit_weights,
    not_downloaded,
    read_header,
    read_weights,
    weights_hash,
)
from mfavbs.errors import EncoderError
from mfavbs.images import FITS, Framing

# What the libraries call the weights in their repositories on the hub, best first.
_TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
_OPEN_CLIP_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)


# How the two libraries call what `Framing.fit` says.
_TIMM_FITS = {"center": "crop", "squash": "squash", "border": "pad"}
_OPEN_CLIP_FITS = {"shortest": "crop", "squash": "squash", "longest": "pad"}


class Pretrained(NamedTuple):
    """A tower, the edge of its images in pixels, the constants of its three channels (on the
    scale 0 to 1), the digest of its weights, how an image becomes a square, and how its
    convolutions pad, where that was chosen."""

    tower: TimmTower | OpenClipTower
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights_hash: str
    framing: Framing
    pad_type: str = ""


def from_timm(name: str, path: Path | None, image_size: int | None) -> Pretrained:
    """Build ``timm:ARCH[.TAG]``; raises `EncoderError` where that cannot be."""
    import timm

    model = name.removeprefix("timm:")
    arch, _, tag = model.partition(".")
    tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{arch}.*")]
    if not timm.is_model(arch):
        raise EncoderError(f"unknown timm model {arch!r}{closest(name)}")
    if (tag and tag not in tags) or (path is None and not tags):
        raise EncoderError(
            f"timm has no weights {model!r}, expected {arch}.TAG with one of "
            f"{', '.join(tags) or 'none'}; or give weights=FILE"
        )
    about: Any = timm.get_pretrained_cfg(model)
    header = read_header(path)
    options: dict[str, Any] = {k: header[k] for k in ("pad_type",) if k in header}
    if image_size and about.fixed_input_size:
        options["img_size"] = image_size  # the position embedding is interpolated
    if path is None and about.hf_hub_id:
        files = (about.hf_hub_filename,) if about.hf_hub_filename else _TIMM_FILES
        fetched = fetch_weights(name, about.hf_hub_id, files)
        options["pretrained_cfg_overlay"] = {"file": str(fetched), "custom_load": False}
    failed = None if path or about.hf_hub_id else name  # a few have an address of their own
    with explained(f"{name} cannot be built", failed), contextlib.redirect_stdout(sys.stderr):
        net = timm.create_model(model, pretrained=path is None, num_classes=0, **options)
    config = timm.data.resolve_model_data_config(net)
    if path is not None:
        _fit_timm(net, path)
    size = image_size or config["input_size"][-1]
    mean = _three(header.get("mean"), config["mean"], path)
    std = _three(header.get("std"), config["std"], path)
    digest = weights_hash(net)
    with explained(f"{name} cannot encode images of {size} pixels"):
        tower = TimmTower(fuse_batch_norms(net, size))
    framing = _framing(header, _timm_framing(config), path)
    return Pretrained(tower, size, mean, std, digest, framing, header.get("pad_type", ""))


def _timm_framing(config: dict[str, Any]) -> Framing:
    fit = _TIMM_FITS[config["crop_mode"]]
    red, green, blue = (round(255 * value) for value in config["mean"])
    fill = (red, green, blue) if fit == "pad" else (0, 0, 0)
    return Framing(fit, config["crop_pct"], config["interpolation"], fill)


def _fit_timm(net: nn.Module, path: Path) -> None:
    state = read_weights(path)
    classifier = getattr(net, "pretrained_cfg", {}).get("classifier") or ()
    classifier = (classifier,) if isinstance(classifier, str) else classifier
    # What timm does to a checkpoint of its own on the way in: position embeddings of another
    # size, older names. It stands beside the model's class and is left alone where all fits.
    adapt = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    own = net.state_dict()
    if adapt and any(k not in state or state[k].shape != v.shape for k, v in own.items()):
        with contextlib.suppress(Exception):  # not a checkpoint of this model: said below
            state = adapt(dict(state), net)
    fit_weights(net, state, path, drop=classifier)


def from_open_clip(name: str, path: Path | None, image_size: int | None) -> Pretrained:
    """Build the image side of ``open_clip:MODEL[/TAG]`` or ``open_clip:hf-hub:OWNER/NAME``.

    Raises `EncoderError` where that cannot be.
    """
    import open_clip

    hub = name.startswith("open_clip:hf-hub:")
    model, about, file = (model_on_the_hub if hub else known_model)(name, path)
    header = read_header(path)
    with explained(f"{name} cannot be built"), quiet():
        clip: Any = open_clip.create_model(
            model,
            # The weights decide the activation: OpenAI's were trained with QuickGELU.
            force_quick_gelu=bool(about.get("quick_gelu")),
            force_image_size=image_size,
            pretrained_text=False,
            **({"load_weights": False} if hub else {}),
        )
    fit_image_side(clip, file)
    visual = clip.visual
    mean = _three(header.get("mean"), about.get("mean", open_clip.OPENAI_DATASET_MEAN), path)
    std = _three(header.get("std"), about.get("std", open_clip.OPENAI_DATASET_STD), path)
    size = image_size or open_clip.model.to_2tuple(visual.image_size)[0]
    digest = weights_hash(visual)
    with explained(f"{name} cannot encode images of {size} pixels"):
        visual = fuse_batch_norms(visual, size)
    is_timm = hasattr(visual, "trunk")
    tower = TimmTower(visual.trunk, visual.head) if is_timm else OpenClipTower(visual)
    framing = Framing(
        _OPEN_CLIP_FITS[about.get("resize_mode") or "shortest"],
        interpolation=about.get("interpolation") or "bicubic",
        fill=(about.get("fill_color", 0),) * 3,
    )
    return Pretrained(tower, size, mean, std, digest, _framing(header, framing, path))


def known_model(name: str, path: Path | None) -> tuple[str, dict[str, Any], Path]:
    """Name of a model that open_clip knows, what it says of its weights, and their file."""
    import open_clip

    model, _, tag = name.removeprefix("open_clip:").partition("/")
    if model not in open_clip.list_models():
        raise EncoderError(f"unknown open_clip model {model!r}{closest(name)}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    about = open_clip.get_pretrained_cfg(model, tag) if tag else {}
    if (tag or path is None) and not about:
        raise EncoderError(
            f"open_clip has no weights {tag!r} for {model}, expected open_clip:{model}/TAG with "
            f"one of {', '.join(tags) or 'none'}; or leave the tag out and give weights=FILE"
        )
    if path is None:
        repository, _, filename = about["hf_hub"].rpartition("/")
        files = (filename.replace(".bin", ".safetensors"), filename) if filename else ()
        path = fetch_weights(name, repository, files or _OPEN_CLIP_FILES)
    # Without a tag, the preprocessing that the model was first trained with.
    about = about or (open_clip.get_pretrained_cfg(model, tags[0]) if tags else {})
    return model, about if tag else {**about, "quick_gelu": False}, path


def model_on_the_hub(name: str, path: Path | None) -> tuple[str, dict[str, Any], Path]:
    """The same of a repository on the hub, which says itself what its model is."""
    repository = name.removeprefix("open_clip:hf-hub:")
    config = fetch_weights(name, repository, ("open_clip_config.json",))
    with explained(f"{name} cannot be built: {config}"):
        about = json.loads(config.read_text(encoding="utf-8")).get("preprocess_cfg", {})
    file = path or fetch_weights(name, repository, _OPEN_CLIP_FILES)
    return f"local-dir:{config.parent}", about, file


def fit_image_side(clip: Any, path: Path) -> None:
    """Load the image side of a whole CLIP checkpoint, or a checkpoint of the image side alone."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import resize_pos_embed

    state = read_weights(path)
    with contextlib.suppress(Exception):  # not a checkpoint of this model: said below
        state = convert_state_dict(clip, state)
    if not any(key.startswith("visual.") for key in state):
        state = {f"visual.{key}": tensor for key, tensor in state.items()}
    with contextlib.suppress(Exception):
        resize_pos_embed(state, clip)
    image = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    fit_weights(clip.visual, image, path)


def _three(text: str | None, default: tuple[float, ...], path: Path | None) -> tuple[float, ...]:
    """Three channel constants from a header's text: one number for all, or three in a list."""
    if text is None:
        return tuple(default)
    try:
        value = json.loads(text)
        values = [float(v) for v in value] if isinstance(value, list) else [float(value)] * 3
    except (ValueError, TypeError):
        values = []
    if len(values) != 3:
        raise EncoderError(
            f"expected one number or a list of three as mean and std in the header of {path}, "
            f"got {text!r}; correct the header"
        )
    return tuple(values)


def _framing(header: dict[str, str], own: Framing, path: Path | None) -> Framing:
    """The weights' own framing, corrected by what the header of their file says of it."""
    fit = header.get("fit", own.fit)
    interpolation = header.get("interpolation", own.interpolation)
    try:
        crop_pct = float(header.get("crop_pct", own.crop_pct))
    except ValueError:
        crop_pct = 0.0
    resampling = {name.lower() for name in PIL.Image.Resampling.__members__}
    if fit not in FITS or interpolation not in resampling or not 0.1 <= crop_pct <= 10:
        raise EncoderError(
            f"expected fit ({', '.join(FITS)}), interpolation ({', '.join(sorted(resampling))}) "
            f"and crop_pct (0.1 to 10) in the header of {path}, got {fit!r}, {interpolation!r} "
            f"and {header.get('crop_pct', own.crop_pct)!r}; correct the header"
        )
    return own._replace(fit=fit, interpolation=interpolation, crop_pct=crop_pct)


@contextlib.contextmanager
def explained(what: str, download: str | None = None) -> Iterator[None]:
    """Turn whatever a library raises into one line; ``download`` names what was being fetched."""
    try:
        yield
    except EncoderError:
        raise
    except Exception as error:
        if download:
            raise not_downloaded(download, error) from error
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise EncoderError(f"{what}: {reason}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without open_clip's log lines; that the model has no weights yet is as it should be."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def closest(name: str) -> str:
    """A hint with the nearest names of the kind that ``name`` seems to mean."""
    import open_clip
    import timm

    known = ["pixels", *(f"timm:{m}" for m in timm.list_models())]
    known += [f"open_clip:{m}/{t}" for m, t in open_clip.list_pretrained()]
    found = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"; closest: {', '.join(found)}" if found else ""
