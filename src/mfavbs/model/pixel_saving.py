"""A model trained on pixels in a folder of its own; nothing is pickled.

In: a fitted :class:`mfavbs.model.EndToEnd`, or a folder.
Out: ``config.json``, ``model.safetensors`` and, of the run that it started from, ``frozen/`` in the
folder; or the model read back from them.
"""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from sklearn.utils.validation import check_is_fitted

from mfavbs.devices import pick_device
from mfavbs.errors import RunError
from mfavbs.files import user_path, write_json, write_whole
from mfavbs.model.estimator import MFAVBsClustering
from mfavbs.model.pixel_fitting import build_pixel_network, resolve_pixels
from mfavbs.model.saving import DAMAGED, END_TO_END

SCHEMA = 1
_FROZEN = "frozen"


def save_pixel_model(model: Any, folder: str | Path) -> None:
    """Write a fitted model's parameters, its network and its frozen run into ``folder``."""
    check_is_fitted(model, "network_")
    folder = user_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    network, frozen = model.network_, model._fitted_from
    if frozen is not None:
        frozen.save(folder / _FROZEN)
    config = {
        "schema": SCHEMA,
        "kind": END_TO_END,
        "parameters": model._fitted_parameters,
        "frozen": frozen is not None,
        "bank": network.n_kept,
        "head": model.head_,
        "best_epoch": model.best_epoch_,
        "history": model.history_,
    }
    write_json(folder / "config.json", config)
    weights = {name: x.cpu().contiguous() for name, x in network.state_dict().items()}
    content = safetensors.torch.save(weights)
    write_whole(folder / "model.safetensors", lambda file: file.write(content))


def load_pixel_model(cls: Any, folder: str | Path, device: str) -> Any:
    """Read a model of ``cls`` back, onto ``device``; what cannot be read is a `RunError`."""
    folder = user_path(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict) or config.get("kind") != END_TO_END:
            raise RunError(
                f"{folder} is not a model trained on pixels; one trained on features is read by "
                "MFAVBsClustering.load"
            )
        if config["schema"] > SCHEMA:
            raise RunError(
                f"The model {folder} has schema {config['schema']}, this version of mfavbs reads "
                f"up to {SCHEMA}. Upgrade mfavbs."
            )
        frozen = MFAVBsClustering.load(folder / _FROZEN, device) if config["frozen"] else None
        model = cls(frozen, **config["parameters"])
        model._validate_params()
        chosen = resolve_pixels(frozen, config["parameters"])
        network = build_pixel_network(chosen, frozen)
        network.make_room(config["bank"])
        safetensors.torch.load_model(network, str(folder / "model.safetensors"))
        model.head_ = range(network.n_cluster_heads)[config["head"]]
        model.best_epoch_, model.history_ = config["best_epoch"], config["history"]
        model._fitted_parameters, model._fitted_from = config["parameters"], frozen
    except DAMAGED as error:
        raise RunError(
            f"{folder} is not a model that mfavbs can read ({error}). Expected config.json, "
            "model.safetensors and frozen/ as EndToEnd.save writes them."
        ) from error
    model.network_ = network.to(pick_device(device)).eval()
    return model
