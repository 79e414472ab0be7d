"""A fitted model in a folder of its own; nothing is pickled.

In: a fitted model, or a folder.
Out: ``config.json`` and ``model.safetensors`` in the folder, or the model read back from them.
"""

import json
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
from safetensors import SafetensorError
from sklearn.utils.validation import check_is_fitted

from mfavbs.devices import pick_device
from mfavbs.errors import RunError
from mfavbs.files import user_path, write_json

MODEL_SCHEMA = 2
# What reading a model that was cut off or edited ends in.
_DAMAGED = (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError)
_Model = TypeVar("_Model")


def save_model(model: Any, folder: str | Path) -> None:
    """Write a fitted estimator's parameters and its network into ``folder``."""
    check_is_fitted(model)
    folder = user_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parameters = model.get_params()
    if not isinstance(model.random_state, Integral):
        parameters["random_state"] = None  # the state of a generator has no place in JSON
    config = {
        "schema": MODEL_SCHEMA,
        "parameters": {k: v.item() if hasattr(v, "item") else v for k, v in parameters.items()},
        "n_features": model.n_features_in_,
        "n_tokens": model.network_.mean.shape[0],
        "bank": len(model.network_.bank_probabilities),
        "head": model.head_,
    }
    write_json(folder / "config.json", config)
    safetensors.torch.save_model(model.network_, str(folder / "model.safetensors"))


def load_model(cls: type[_Model], folder: str | Path, device: str) -> _Model:
    """Read a model of ``cls`` back, onto ``device``; what cannot be read is a `RunError`."""
    folder = user_path(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        schema = config["schema"]
        if schema > MODEL_SCHEMA:
            raise RunError(
                f"The model {folder} has schema {schema}, this version of mfavbs reads up to "
                f"{MODEL_SCHEMA}. Upgrade mfavbs."
            )
        if schema < MODEL_SCHEMA:
            raise RunError(
                f"The model {folder} has schema {schema}, of an earlier version; this one "
                f"reads {MODEL_SCHEMA}. Cluster again: the run's features are found again."
            )
        model: Any = cls(**config["parameters"])
        model.network_ = model._build(config["n_features"], config["n_tokens"], 0)
        model.network_.make_room(config["bank"])
        safetensors.torch.load_model(model.network_, str(folder / "model.safetensors"))
        model.head_ = range(model.network_.n_cluster_heads)[config["head"]]
    except _DAMAGED as error:
        raise RunError(
            f"{folder} is not a model that mfavbs can read ({error}). Expected config.json "
            "and model.safetensors as `mfavbs cluster` writes them."
        ) from error
    model.network_.to(pick_device(device))
    model.n_features_in_ = config["n_features"]
    return model
