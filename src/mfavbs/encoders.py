"""A frozen encoder that turns a view into tokens.

In: a batch of views, (b, 3, s, s) uint8.
Out: their tokens, (b, t, d) float32, where t = 1 + grid²: the pooled feature comes first, then, with
a grid g > 0, the patch tokens averaged to g × g.
"""

import contextlib
import difflib
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mfavbs.errors import EncoderError

DEFAULT_ENCODER = "open_clip:ViT-B-32/openai"
KINDS = "open_clip:MODEL/PRETRAINED, timm:MODEL or pixels"
_PIXELS_SIZE = 16


class Encoder(nn.Module):
    """A frozen backbone behind its own normalisation, giving tokens of one width.

    Parameters
    ----------
    name
        As the user writes it: ``open_clip:MODEL/PRETRAINED``, ``timm:MODEL`` or ``pixels``.
    tower
        Module from (b, 3, s, s) to the pooled feature (b, d) and the map of patch tokens
        (b, d, rows, columns), or ``None`` in the map's place where it has none of that width.
    image_size
        Edge of the square views it expects, in pixels.
    mean, std
        Of the three channels, on the scale 0 to 1.
    grid
        0 for the pooled feature alone, g > 0 for g × g patch tokens beside it.
    weights_hash
        Digest of the weights, so that a feature store knows what made it.
    augmentation
        The kind of views that suits it, see :class:`mfavbs.views.Views`.
    """

    def __init__(
        self,
        name: str,
        tower: nn.Module,
        image_size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        grid: int = 0,
        weights_hash: str = "",
        augmentation: str = "simclr",
    ) -> None:
        super().__init__()
        self.name = name
        self.tower = tower
        self.image_size = image_size
        self.grid = grid
        self.weights_hash = weights_hash
        self.augmentation = augmentation
        # uint8 travels from the workers at a quarter of the bytes; the scaling belongs here.
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1))
        self.dtype = torch.float32
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        x = (images.to(self.mean.device).float() - self.mean) / self.std  # (b, 3, s, s)
        x = x.to(self.dtype, memory_format=torch.channels_last)
        pooled, patches = self.tower(x)  # (b, d), (b, d, rows, columns)
        tokens = pooled[:, None]  # (b, 1, d)
        if self.grid:
            if patches is None:
                raise EncoderError(
                    f"{self.name} has no patch tokens of its pooled width; use --grid 0."
                )
            cells = F.adaptive_avg_pool2d(patches, self.grid)  # (b, d, g, g)
            tokens = torch.cat([tokens, cells.flatten(2).mT], dim=1)  # (b, 1 + g², d)
        return tokens.float()

    def to_device(self, device: torch.device) -> "Encoder":
        """Move to ``device``, in bfloat16 where its arithmetic is native and float32 elsewhere."""
        self.dtype = torch.bfloat16 if has_bfloat16(device) else torch.float32
        self.to(device, memory_format=torch.channels_last)
        self.tower.to(self.dtype)
        return self


class _OpenCLIPTower(nn.Module):
    """The image side of a CLIP model; patch tokens go through the same projection as the pooled."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        self.has_patches = hasattr(visual, "output_tokens") and visual.attn_pool is None
        if self.has_patches:
            visual.output_tokens = True

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.has_patches:
            return self.visual(x), None
        pooled, tokens = self.visual(x)  # (b, d), (b, p, width)
        if self.visual.proj is not None:
            tokens = tokens @ self.visual.proj  # (b, p, d)
        return pooled, _as_map(tokens)


class _TimmTower(nn.Module):
    """Any timm backbone without its classifier."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.model.forward_features(x)  # (b, d, rows, columns) or (b, p, d)
        pooled = self.model.forward_head(features, pre_logits=True)  # (b, d)
        if features.ndim == 3:
            features = _as_map(features[:, getattr(self.model, "num_prefix_tokens", 0) :])
        elif features.shape[1] != pooled.shape[1] == features.shape[-1]:
            features = features.permute(0, 3, 1, 2)  # Swin and its kin put channels last
        return pooled, features if features.shape[1] == pooled.shape[1] else None


class _PixelsTower(nn.Module):
    """No network: the pixels themselves, and for patches the image with the rest blanked out."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        b, c, s, _ = x.shape
        places = torch.eye(s * s, device=x.device, dtype=x.dtype)  # one pixel left, the rest zero
        patches = x.flatten(2)[:, :, None] * places  # (b, c, s², s²)
        return x.flatten(1), patches.reshape(b, c * s * s, s, s) if s <= _PIXELS_SIZE else None


def load_encoder(
    name: str = DEFAULT_ENCODER,
    *,
    weights: str | Path | None = None,
    image_size: int | None = None,
    grid: int = 0,
) -> Encoder:
    """Build a frozen encoder, with weights from a local file or, if none is given, from the network.

    Parameters
    ----------
    name
        ``open_clip:MODEL/PRETRAINED``, ``timm:MODEL`` or ``pixels``.
    weights
        A local checkpoint: ``.safetensors``, or ``.pt``/``.pth``/``.bin`` holding tensors only.
        The header of a safetensors file may carry ``mean``, ``std`` and ``pad_type`` for timm.
    image_size
        Edge of the views in pixels; by default the size the weights were trained at.
    grid
        0 for the pooled feature alone, g > 0 for g × g patch tokens beside it.

    Raises
    ------
    EncoderError
        If the name is unknown, the weights cannot be fetched, read, or do not fit the model.
    """
    kind, _, model = name.partition(":")
    if grid < 0:
        raise EncoderError(f"grid={grid} should be >= 0.")
    if image_size is not None and image_size < 1:
        raise EncoderError(f"image_size={image_size} should be >= 1 pixel.")
    path = None if weights is None else Path(weights)
    if path is not None and not path.is_file():
        raise EncoderError(f"Weights file {path} does not exist.")
    if name == "pixels":
        return _pixels(image_size or _PIXELS_SIZE, grid, path)
    if kind == "timm" and model:
        return _timm(name, model, path, image_size, grid)
    if kind == "open_clip" and model:
        return _open_clip(name, model, path, image_size, grid)
    raise EncoderError(f"Unknown encoder {name!r}: expected {KINDS}.{_closest(name)}")


def _pixels(image_size: int, grid: int, path: Path | None) -> Encoder:
    if path is not None:
        raise EncoderError("The encoder 'pixels' has no weights; drop --weights.")
    if grid and image_size > _PIXELS_SIZE:
        raise EncoderError(
            f"pixels with grid={grid} needs image_size <= {_PIXELS_SIZE}, got {image_size}: "
            "every patch token is as long as the image. Use --grid 0 or smaller images."
        )
    zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Encoder("pixels", _PixelsTower(), image_size, zero, one, grid, "", "shift")


def _timm(name: str, model: str, path: Path | None, image_size: int | None, grid: int) -> Encoder:
    import timm

    if not timm.is_model(model.partition(".")[0]):
        raise EncoderError(f"Unknown timm model {model!r}.{_closest(name)}")
    header = _safetensors_header(path)
    options: dict[str, object] = {k: header[k] for k in ("pad_type",) if k in header}
    fixed = timm.get_pretrained_cfg(model)
    if image_size and fixed is not None and fixed.fixed_input_size:
        options["img_size"] = image_size  # a ViT interpolates its position embedding
    with _explain_download(name, path):
        net = timm.create_model(model, pretrained=path is None, num_classes=0, **options)
    config = timm.data.resolve_model_data_config(net)
    mean = _three(header.get("mean"), config["mean"])
    std = _three(header.get("std"), config["std"])
    if path is not None:
        _load_weights(net, path)
    size = image_size or config["input_size"][-1]
    return Encoder(name, _TimmTower(net), size, mean, std, grid, weights_hash(net))


def _open_clip(
    name: str, model: str, path: Path | None, image_size: int | None, grid: int
) -> Encoder:
    import open_clip

    model, _, tag = model.rpartition("/") if "/" in model else (model, "", "")
    if model not in open_clip.list_models():
        raise EncoderError(f"Unknown open_clip model {model!r}.{_closest(name)}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if path is None and tag not in tags:
        raise EncoderError(
            f"open_clip has no weights {tag!r} for {model}; it has {', '.join(tags) or 'none'}. "
            f"Write open_clip:{model}/TAG, or give --weights FILE."
        )
    config = open_clip.get_pretrained_cfg(model, tag) if tag else {}
    with _explain_download(name, path):
        clip = open_clip.create_model(
            model,
            pretrained=tag if path is None else None,
            # The weights decide the activation: OpenAI's were trained with QuickGELU.
            force_quick_gelu=bool(config.get("quick_gelu")),
            force_image_size=image_size,
            pretrained_text=False,
        )
    if path is not None:
        _load_clip_weights(clip, path)
    visual = clip.visual
    size = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    mean = _three(None, config.get("mean", open_clip.OPENAI_DATASET_MEAN))
    std = _three(None, config.get("std", open_clip.OPENAI_DATASET_STD))
    return Encoder(name, _OpenCLIPTower(visual), size, mean, std, grid, weights_hash(visual))


def _load_clip_weights(clip: nn.Module, path: Path) -> None:
    """Load a whole CLIP checkpoint, or one of the image side alone."""
    from open_clip.factory import load_checkpoint

    state = _read_weights(path)
    if "logit_scale" not in state:
        _fit_weights(clip.visual, state, path)
        return
    try:
        load_checkpoint(clip, str(path), strict=True, weights_only=True)
    except RuntimeError as error:
        raise EncoderError(f"Weights {path} do not fit the model: {error}") from error


def _load_weights(net: nn.Module, path: Path) -> None:
    _fit_weights(net, _read_weights(path), path)


def _fit_weights(net: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load ``state`` whole, or say which tensors do not fit.

    A classifier left over in the checkpoint is dropped: the encoder has none.
    """
    # Batch norm's step counter is not a weight, and exporters leave it out.
    own = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    extra = {k for k in state if k not in own and k.split(".")[0] not in ("head", "fc", "classifier")}
    missing = own.keys() - state.keys()
    wrong = {k for k in own.keys() & state.keys() if own[k].shape != state[k].shape}
    if extra or missing or wrong:
        parts = [
            f"{len(names)} {what} ({', '.join(sorted(names)[:3])}{', …' if len(names) > 3 else ''})"
            for what, names in (("missing", missing), ("unexpected", extra))
            if names
        ]
        parts += [
            f"{k} is {tuple(state[k].shape)}, expected {tuple(own[k].shape)}"
            for k in sorted(wrong)[:3]
        ]
        raise EncoderError(
            f"Weights {path} do not fit the model: {'; '.join(parts)}. "
            "Check that --encoder names the model they were saved from."
        )
    net.load_state_dict({k: state[k] for k in own}, strict=False)


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint, read without running any code that it may carry."""
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise many types on damaged or hostile files
        raise EncoderError(
            f"Weights {path} cannot be read as tensors: {str(error).splitlines()[0]} "
            "Expected .safetensors, or a .pt file of plain tensors; code in pickles is never run."
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    tensors = {k.removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        raise EncoderError(f"Weights {path} hold no tensors by name; save model.state_dict().")
    return tensors


def _safetensors_header(path: Path | None) -> dict[str, str]:
    if path is None or path.suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except Exception as error:
        raise EncoderError(f"Weights {path} cannot be read: {error}") from error


def _three(text: str | None, default: tuple[float, ...]) -> tuple[float, ...]:
    """Three channel constants from a header's text: one number for all, or three in a list."""
    if text is None:
        return tuple(default)
    value = json.loads(text)
    return tuple(value) if isinstance(value, list) else (float(value),) * 3


@contextlib.contextmanager
def _explain_download(name: str, path: Path | None):
    """Turn whatever a failed download raises into one message that names the ways on."""
    try:
        yield
    except Exception as error:
        if path is not None:
            raise EncoderError(f"{name} cannot be built: {error}") from error
        raise EncoderError(
            f"The weights of {name} are not on this machine and could not be downloaded "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). "
            "Three ways on: --weights FILE with a checkpoint of your own; HF_HOME=DIR with a "
            "cache filled on another machine; or --encoder pixels, which needs no weights."
        ) from error


def _closest(name: str) -> str:
    """A hint with the nearest names of the kind that ``name`` seems to mean."""
    import open_clip
    import timm

    known = ["pixels", *(f"timm:{m}" for m in timm.list_models())]
    known += [f"open_clip:{m}/{t}" for m, t in open_clip.list_pretrained()]
    found = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f" Closest: {', '.join(found)}." if found else ""


def _as_map(tokens: Tensor) -> Tensor | None:
    """Patch tokens (b, p, d) as a square map (b, d, √p, √p); None if p is no square."""
    b, p, d = tokens.shape
    side = round(p**0.5)
    return tokens.mT.reshape(b, d, side, side) if side * side == p else None


def weights_hash(net: nn.Module) -> str:
    """Digest of all tensors of ``net``, by name: 16 hex digits."""
    digest = hashlib.blake2b(digest_size=8)
    for key, tensor in sorted(net.state_dict().items()):
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(tensor.cpu().float().numpy()).data)
    return digest.hexdigest()


def pick_device(device: str = "auto") -> torch.device:
    """``auto`` is CUDA, Apple's MPS or the CPU, in this order; anything else is torch's name."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is native there, and so faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return any(able.get(key) for key in ("amx_bf16", "avx512_bf16", "bf16"))
    return False
