"""The weights of an encoder: a file of tensors, or a repository on the Hugging Face hub.

In: a path or a repository, and a network. Out: the network with those weights, or an error that
names the tensors in the way. Nothing that a file carries beside its tensors is ever run.
"""

import hashlib
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mfavbs.errors import EncoderError

_SECONDS_TO_ANSWER = 10.0
# What trainers put around the tensors; of several the first is taken, as timm does.
_CONTAINERS = ("state_dict_ema", "model_ema", "teacher", "state_dict", "model", "model_state_dict")
_PREFIXES = ("_orig_mod.", "module.", "model.", "teacher.", "backbone.")
_PARTS = ("teacher.", "backbone.")  # beside which there is a student, or a head for training


def fetch_weights(name: str, repository: str, filenames: Sequence[str]) -> Path:
    """Path of a model's weights in the hub's cache, downloaded first where it is not there.

    Parameters
    ----------
    name
        The encoder's, for messages.
    repository
        On the hub, as ``owner/name``.
    filenames
        What the file may be called, best first.

    Raises
    ------
    EncoderError
        It is not in the cache, and the hub does not answer or does not have it.
    """
    import huggingface_hub as hub

    for filename in filenames:
        cached = hub.try_to_load_from_cache(repository, filename)
        if isinstance(cached, str):
            _check_whole(Path(cached), name)
            return Path(cached)
    try:
        # One question without retries: a download's own six tries per file name take a minute to
        # give up where there is no network.
        siblings = hub.HfApi().model_info(repository, timeout=_SECONDS_TO_ANSWER).siblings or []
        there = {sibling.rfilename for sibling in siblings}
        filename = next((one for one in filenames if one in there), filenames[-1])
        print(
            f"Fetching the weights of {name} from the Hugging Face hub ({repository}) ...",
            file=sys.stderr,
        )
        return Path(hub.hf_hub_download(repository, filename))
    except Exception as error:  # of the hub's client, of its HTTP library, of the disk
        raise not_downloaded(name, error) from error


def _check_whole(path: Path, name: str) -> None:
    """Refuse a file of the hub's cache that was cut off, which its start and its end show."""
    from safetensors import safe_open

    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):  # its header says how long it is
                return
        if path.suffix == ".json" or zipfile.is_zipfile(path):
            return
        with open(path, "rb") as file:
            if file.read(4) != b"PK\3\4" and path.stat().st_size:  # torch's older format
                return
        reason = "its end is missing"
    except Exception as error:
        reason = _first_line(error)
    raise EncoderError(
        f"the weights of {name} in the hub's cache are cut off or damaged ({reason}): remove "
        f"{path} and run the same command again, which fetches them anew"
    )


def not_downloaded(name: str, error: Exception) -> EncoderError:
    """The error for weights that could not be had, with the ways on."""
    return EncoderError(
        f"the weights of {name} are not on this machine and could not be downloaded "
        f"({_first_line(error)}); three ways on: weights=FILE with a checkpoint of your own; "
        "HF_HOME=DIR with a cache filled on another machine; or encoder=pixels, which needs none"
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint by name, read without running any code that it may carry.

    What a trainer puts around them is taken off: containers such as ``state_dict`` and, of an
    average and the weights it is of, the average; prefixes such as ``module.``.
    """
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return _without_prefixes(load_file(path))
        _refuse_torchscript(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except EncoderError:
        raise
    except Exception as error:  # both readers raise many types on damaged or hostile files
        raise EncoderError(
            "expected tensors by name, in a .safetensors or a .pt file; the weights "
            f"{path} are not, or are damaged ({_first_line(error)}); "
            "code in a pickle is never run: save model.state_dict()"
        ) from error
    while isinstance(content, dict):
        inner = next((c for c in _CONTAINERS if isinstance(content.get(c), dict)), None)
        if inner is None:
            break
        content = content[inner]
    state = content if isinstance(content, dict) else {}
    state = {key: value for key, value in state.items() if _is_tensor(key, value)}
    if not state:
        raise EncoderError(
            f"expected tensors by name, the weights {path} hold none; save model.state_dict()"
        )
    return _without_prefixes(state)


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    while True:
        for prefix in _PREFIXES:
            inner = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if inner and (prefix in _PARTS or len(inner) == len(state)):
                state = inner
                break
        else:
            # A few tensors beside the network, such as a step counter, have no prefix.
            return {k.removeprefix("module."): v for k, v in state.items()}


def _refuse_torchscript(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if any("/code/" in name for name in archive.namelist()):
            raise EncoderError(
                f"expected tensors by name; the weights {path} are a TorchScript archive, a "
                "program that is not run here; save what it holds: "
                'torch.save(torch.jit.load(FILE, "cpu").state_dict(), "weights.pt")'
            )


def read_header(path: Path | None) -> dict[str, str]:
    """What the header of a safetensors file says beside its tensors; nothing for other files."""
    if path is None or path.suffix != ".safetensors":
        return {}
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except Exception as error:
        raise EncoderError(
            f"expected whole safetensors; the weights {path} cannot be read: "
            f"{_first_line(error)}; copy or download the file again"
        ) from error


def fit_weights(
    net: nn.Module, state: dict[str, Tensor], path: Path, drop: Sequence[str] = ()
) -> None:
    """Load ``state`` whole, or say which tensors do not fit.

    Parameters
    ----------
    net
        The network.
    state
        From :func:`read_weights`.
    path
        Where it came from, for messages.
    drop
        Modules, such as a classifier, that the checkpoint may have and the network has not.
    """
    # Batch norm's step counter is not a weight, and exporters leave it out.
    own = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    prefixes = tuple(f"{module}." for module in drop)
    extra = {
        k
        for k in state
        if k not in own and not k.startswith(prefixes) and not k.endswith("num_batches_tracked")
    }
    missing = own.keys() - state.keys()
    wrong = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    parts = [
        f"{len(names)} {what} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in (("missing", missing), ("unexpected", extra))
        if names
    ]
    parts += [f"{k} is {tuple(state[k].shape)}, expected {tuple(own[k].shape)}" for k in wrong[:3]]
    if parts:
        raise EncoderError(
            f"the weights {path} do not fit the model: {'; '.join(parts)}; check that encoder= "
            "names the model they were saved from"
        )
    net.load_state_dict({k: state[k] for k in own}, strict=False)


def weights_hash(net: nn.Module) -> str:
    """Digest of all tensors of ``net``, by name: 16 hex digits."""
    digest = hashlib.blake2b(digest_size=8)
    for key, tensor in sorted(net.state_dict().items()):
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(tensor.cpu().float().numpy()).data)
    return digest.hexdigest()


def _is_tensor(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n")[0].rstrip(".;: ")
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
