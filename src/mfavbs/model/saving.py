"""A fitted model in a folder of its own; nothing is pickled.

In: a fitted model, or a folder.
Out: ``config.json`` and ``model.safetensors`` in the folder, or the model read back from them.
"""

import json
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.torch
from safetensors import SafetensorError
from sklearn.utils.validation import check_is_fitted

from mfavbs.devices import pick_device
from mfavbs.errors import RunError
from mfavbs.files import user_path, write_json, write_whole
from mfavbs.model.defaults import resolve
from mfavbs.model.fitting import build_network

MODEL_SCHEMA = 3  # 2 has no losses and no names of features
_OLDEST = 2
# What reading a model that was cut off or edited ends in.
DAMAGED = (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError)
END_TO_END = "end-to-end"  # kind of a model that `pixel_saving` writes
_Model = TypeVar("_Model")


def save_model(model: Any, folder: str | Path) -> None:
    """Write a fitted estimator's parameters and its network into ``folder``."""
    check_is_fitted(model)
    folder = user_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parameters = dict(model._fitted_parameters)
    if not isinstance(parameters["random_state"], Integral):
        parameters["random_state"] = None  # the state of a generator has no place in JSON
    parameters["memory"] = None  # of the machine that it was fitted on
    network, names = model.network_, getattr(model, "feature_names_in_", None)
    config = {
        "schema": MODEL_SCHEMA,
        "parameters": {k: v.item() if hasattr(v, "item") else v for k, v in parameters.items()},
        "n_features": model.n_features_in_,
        "n_tokens": network.n_tokens,
        "bank": network.n_kept,
        "head": model.head_,
        "losses": model.loss_history_,
        "feature_names": None if names is None else names.tolist(),
    }
    write_json(folder / "config.json", config)
    weights = {name: x.cpu().contiguous() for name, x in network.state_dict().items()}
    content = safetensors.torch.save(weights)  # its own writer leaves others no right to read
    write_whole(folder / "model.safetensors", lambda file: file.write(content))


def load_model(cls: type[_Model], folder: str | Path, device: str) -> _Model:
    """Read a model of ``cls`` back, onto ``device``; what cannot be read is a `RunError`."""
    folder = user_path(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        schema = config["schema"]
        if config.get("kind") == END_TO_END:
            raise RunError(f"{folder} was trained on pixels; it is read by EndToEnd.load")
        if schema > MODEL_SCHEMA:
            raise RunError(
                f"The model {folder} has schema {schema}, this version of mfavbs reads up to "
                f"{MODEL_SCHEMA}. Upgrade mfavbs."
            )
        if schema < _OLDEST:
            raise RunError(
                f"The model {folder} has schema {schema}, of an earlier version; this one "
                f"reads {_OLDEST} and later. Cluster again: the run's features are found again."
            )
        model: Any = cls(**config["parameters"])
        model._validate_params()
        model.network_ = build_network(
            resolve(config["parameters"], 1), config["n_features"], config["n_tokens"], 0
        )
        model.network_.make_room(config["bank"])
        safetensors.torch.load_model(model.network_, str(folder / "model.safetensors"))
        model.head_ = range(model.network_.n_cluster_heads)[config["head"]]
        model.n_features_in_ = config["n_features"]
        model.n_clusters_ = model.network_.n_clusters
        model._fitted_parameters = model.get_params()
        if schema > 2:
            model.loss_history_ = config["losses"]
            if config["feature_names"] is not None:
                model.feature_names_in_ = np.array(config["feature_names"], dtype=object)
    except DAMAGED as error:
        raise RunError(
            f"{folder} is not a model that mfavbs can read ({error}). Expected config.json "
            "and model.safetensors as `mfavbs cluster` writes them."
        ) from error
    model.network_.to(pick_device(device))
    return model
