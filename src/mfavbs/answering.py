"""A finished run that answers a few new images at once, again and again.

In: the contents of images, or features (m, …, d). Out: a cluster for each, in the words of
labels.parquet.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfavbs import runs
from mfavbs.devices import check_device, pick_device
from mfavbs.encoders import Weights
from mfavbs.errors import RunError, SourceError
from mfavbs.files import user_path
from mfavbs.images import IMAGE_MEMORY, Views, recorded_range
from mfavbs.judging import how_sure
from mfavbs.prediction import encoder_parameters
from mfavbs.runs import read_run
from mfavbs.sources import load_same_encoder
from mfavbs.training import FROZEN

Answer = dict[str, Any]


class Answering:
    """The network of a run, with its encoder where the run was of images.

    Parameters
    ----------
    run
        A run folder.
    weights
        Where the encoder's weights lie now, if not where they lay for the run.
    device
        ``auto``, ``cpu``, ``cuda``, ``mps``.

    Raises
    ------
    RunError
        There is no finished run, or it was trained from pixels.
    EncoderError
        Its weights cannot be had, or are others.
    """

    def __init__(self, run: str | Path, weights: Weights = None, device: str = "auto") -> None:
        check_device(device)
        folder = user_path(run)
        read = read_run(folder)
        self.record = read.record
        asked = self.record["parameters"]
        if asked.get("train", FROZEN) != FROZEN:
            raise RunError(
                f"{folder} was trained from pixels, and a service answers with runs of "
                f"train={FROZEN}. `mfavbs predict` answers with it."
            )
        from mfavbs.model import MFAVBsClustering

        self._one_at_a_time = threading.Lock()
        self._encode = self._encoding(weights, device)
        self._kept = runs.read_reference(folder)
        self._model = MFAVBsClustering.load(folder / runs.MODEL, device)
        self.n_clusters = int(read.metrics["n_clusters"])  # what was asked for may be "auto"

    def _encoding(self, weights: Weights, device: str) -> Any:
        """What encodes images; None for a run of features."""
        fitted = self.record["encoder"]
        if "weights_hash" not in fitted:
            return None
        from mfavbs.features import DirectEncoding

        asked = encoder_parameters(self.record, weights)
        encoder = load_same_encoder(asked, fitted)
        encoder.to_device(pick_device(device))
        views = Views(
            encoder.image_size,
            asked["n_views"],
            asked["seed"],
            augment=asked["augment"],
            augmentation=encoder.augmentation,
            framing=encoder.framing,
        )
        memory = fitted.get("image_memory", IMAGE_MEMORY)
        return DirectEncoding(encoder, views, recorded_range(fitted), memory)

    def images(self, contents: Sequence[tuple[str, bytes]]) -> list[Answer]:
        """Cluster images by the bytes of their files.

        Returns
        -------
        list of dict
            For each ``path``, ``cluster``, ``confidence``, ``outlier`` and ``probabilities``, as in
            labels.parquet of a prediction; or ``path`` and ``error`` for one that cannot be read.
        """
        if self._encode is None:
            raise SourceError("this run was made from features; send features, not images")
        features, reasons = self._encode(contents)
        found = iter([] if features is None else self._answers(features))
        return [
            {"path": name} | (next(found) if reason is None else {"error": reason})
            for (name, _), reason in zip(contents, reasons, strict=True)
        ]

    def features(self, features: np.ndarray) -> list[Answer]:
        """Cluster features (m, d), (m, v, d) or (m, v, t, d) that were made as the run's.

        Raises
        ------
        ValueError
            They are of another shape, or hold what is no number.
        """
        return self._answers(features)

    def _answers(self, features: np.ndarray) -> list[Answer]:
        with self._one_at_a_time:
            probabilities = self._model.predict_proba(features)
            confidence, more = probabilities.max(axis=1), {}
            if self._kept:  # a run of an earlier version has nothing to compare with
                _, outlier, confidence = how_sure(self._model, features, probabilities, self._kept)
                more = {"outlier": outlier}
        return [
            {"cluster": int(p.argmax()), "confidence": float(sure), "probabilities": p.tolist()}
            | {name: float(values[row]) for name, values in more.items()}
            for row, (p, sure) in enumerate(zip(probabilities, confidence, strict=True))
        ]
