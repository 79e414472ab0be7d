"""Clustering from pixels, end to end, as a researcher calls it.

In: pixels, the crops of v views, the frozen encoders' features of the same views, a frozen run.
Out: labels, and the history of every epoch with the criterion that chose among them.
"""

from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from mfavbs.errors import SourceError
from mfavbs.images import AUGMENTS, RECIPES
from mfavbs.model.assignment import decide
from mfavbs.model.blocks import Fusion
from mfavbs.model.checking import check_features
from mfavbs.model.estimator import MFAVBsClustering
from mfavbs.model.isolation import own_settings
from mfavbs.model.pixel_answers import assign_pixels
from mfavbs.model.pixel_fitting import answer_pixels, check_together, fit_pixels
from mfavbs.model.pixel_saving import load_pixel_model, save_pixel_model
from mfavbs.model.pixel_views import PixelViews
from mfavbs.model.stem import check_image_size
from mfavbs.model.training import Objective


class EndToEnd(BaseEstimator):
    """Cluster images by MFAVBs on their own pixels, from the answer of a frozen run on.

    The system of arXiv 2511.08883: a trained stem makes tokens of a view's patches, the frozen
    encoder's feature of the same view is an anchor token beside them, two views of an image go
    through the MFAVBs, and the class tokens are contrasted. It starts as the frozen run, so that
    epoch 0 answers as that does; the epoch is kept whose answers its representations and the frozen
    features side by side foretell best and most evenly (:func:`mfavbs.model.choose_head`), epoch 0
    among them.

    Parameters
    ----------
    frozen
        A fitted :class:`mfavbs.MFAVBsClustering` on features of one token a view. None trains on
        pixels alone, as VTCC (arXiv 2206.12925) does: no anchor, an image's own views are its
        positives, and the last epoch is kept.
    n_clusters
        k where there is no frozen run; otherwise that run's.
    start
        ``"frozen"`` or ``"random"``; the latter is an ablation, and the only way without anchors.
    anchor
        Whether the network is told the features. Without, a frozen run still names neighbours and
        judges the epochs.
    anchor_widths
        Widths of the features of several encoders side by side, as a store's ``blocks``: one
        anchor token for each. One for all by default.
    anchor_drop
        Share of the views in training whose anchor is withheld, in [0, 1).
    image_size
        Edge of a view in pixels, see :class:`mfavbs.model.Stem`.
    objective
        ``"disjoint"`` or ``"paper"``, see :class:`mfavbs.MFAVBsClustering`. The latter lets a
        fused pair's halves recognise each other by their pixels, and learns little else; from a
        random start its heads are Contrastive Clustering's projectors.
    fusion, n_blocks, shared_depth, fused_depth, n_attention_heads
        Of the MFAVBs, see :class:`mfavbs.MFAVBs`.
    gate
        Start of their residual branches' learned scale; ``"auto"`` is 0.001 from a frozen run, and
        None from a random start.
    dim
        Width of a token, a multiple of 8; from a frozen run, that run's.
    n_neighbors
        Neighbours of an image, by the frozen features, taken for positives.
    augment
        How far the colours of the views go in training, see :class:`mfavbs.images.Views`.
    recipe
        What is done to some of the views of a pair after that, whatever ``augment`` is:
        ``"colours"``, nothing; ``"simclr"``, half of both are blurred; ``"byol"``, all first and a
        tenth of the second are blurred, a fifth of the second have what is bright inverted;
        ``"vtcc"``, as that with all second blurred, too.
    epochs
        Passes over the images; 0 answers as the start does.
    keep
        ``"best"`` epoch by the frozen features, or the ``"last"``.
    batch_size
        Images in a batch, at the most.
    learning_rate
        Peak of the one-cycle schedule of AdamW.
    instance_weight, balance_weight
        Beside the cluster loss; ``"auto"`` as for :class:`mfavbs.MFAVBsClustering`.
    device, random_state, verbose
        As there; ``random_state`` is a number.

    Attributes
    ----------
    labels_, confidences_, probabilities_
        (n,), (n,) and (n, k), as there.
    history_
        For epoch 0 and each after it a dict with ``epoch``, the losses (but of epoch 0) and, where
        there is a frozen run, ``criterion``, less is better, and ``head``, which was judged by it.
    best_epoch_, head_
        The epoch that is kept, and the number of the head that answers.
    network_
        Its :class:`mfavbs.model.PixelNetwork`.

    References
    ----------
    Improve Contrastive Clustering Performance by Multiple Fusing-Augmenting ViT Blocks, arXiv
    2511.08883.
    """

    _parameter_constraints: ClassVar[dict] = {
        "frozen": [MFAVBsClustering, None],
        "n_clusters": [Interval(Integral, 2, None, closed="left"), None],
        "start": [StrOptions({"frozen", "random"})],
        "anchor": ["boolean"],
        "anchor_widths": ["array-like", None],
        "anchor_drop": [Interval(Real, 0, 1, closed="left")],
        "image_size": [Interval(Integral, 1, None, closed="left")],
        "objective": [StrOptions({"disjoint", "paper"})],
        "fusion": [StrOptions({"channel", "token", "none"})],
        "n_blocks": [Interval(Integral, 0, None, closed="left")],
        "shared_depth": [Interval(Integral, 0, None, closed="left")],
        "fused_depth": [Interval(Integral, 0, None, closed="left")],
        "n_attention_heads": [Interval(Integral, 1, None, closed="left")],
        "gate": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"}), None],
        "dim": [Interval(Integral, 8, None, closed="left")],
        "n_neighbors": [Interval(Integral, 0, None, closed="left")],
        "augment": [StrOptions(set(AUGMENTS))],
        "recipe": [StrOptions(set(RECIPES))],
        "epochs": [Interval(Integral, 0, None, closed="left")],
        "keep": [StrOptions({"best", "last"})],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "instance_weight": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "balance_weight": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "device": [str],
        "random_state": [Interval(Integral, 0, 2**31 - 1, closed="left")],
        "verbose": ["boolean"],
    }

    def __init__(
        self,
        frozen: MFAVBsClustering | None = None,
        *,
        n_clusters: int | None = None,
        start: Literal["frozen", "random"] = "frozen",
        anchor: bool = True,
        anchor_widths: Sequence[int] | None = None,
        anchor_drop: float = 0.1,
        image_size: int = 64,
        objective: Objective = "disjoint",
        fusion: Fusion = "token",
        n_blocks: int = 1,
        shared_depth: int = 2,
        fused_depth: int = 2,
        n_attention_heads: int = 4,
        gate: float | Literal["auto"] | None = "auto",
        dim: int = 128,
        n_neighbors: int = 10,
        augment: str = "default",
        recipe: str = "colours",
        epochs: int = 20,
        keep: Literal["best", "last"] = "best",
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        instance_weight: float | Literal["auto"] = "auto",
        balance_weight: float | Literal["auto"] = "auto",
        device: str = "auto",
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.frozen = frozen
        self.n_clusters = n_clusters
        self.start = start
        self.anchor = anchor
        self.anchor_widths = anchor_widths
        self.anchor_drop = anchor_drop
        self.image_size = image_size
        self.objective = objective
        self.fusion = fusion
        self.n_blocks = n_blocks
        self.shared_depth = shared_depth
        self.fused_depth = fused_depth
        self.n_attention_heads = n_attention_heads
        self.gate = gate
        self.dim = dim
        self.n_neighbors = n_neighbors
        self.augment = augment
        self.recipe = recipe
        self.epochs = epochs
        self.keep = keep
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.instance_weight = instance_weight
        self.balance_weight = balance_weight
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _validate_params(self) -> None:
        super()._validate_params()
        check_image_size(self.image_size)
        if self.frozen is None:  # else some are that run's
            check_together(self.get_params(deep=False))

    @own_settings()
    def fit(
        self,
        pixels: np.ndarray,
        crops: np.ndarray,
        features: np.ndarray | None = None,
        *,
        checkpoint: str | Path | None = None,
    ) -> "EndToEnd":
        """Train the network and cluster the images.

        Parameters
        ----------
        pixels
            (n, h, w, 3) uint8, whole images of one size; a memory map stays one.
        crops
            (n, v, m) float32: what each stored view shows of its image, from
            :func:`mfavbs.images.replay_crops`.
        features
            (n, v, f) or (n, v, 1, f) of the same views, on which ``frozen`` was fitted.
        checkpoint
            File written after every epoch and gone on from where it exists; one of other images
            or parameters is refused.

        Raises
        ------
        SourceError
            (a ValueError) If the arrays do not go together, the stem cannot take ``image_size``,
            or there are fewer images than clusters.
        MfavbsError
            If the training diverges, or the device has no memory left; the checkpoint stays.
        """
        self._validate_params()
        parameters = {name: _plain(x) for name, x in self.get_params(deep=False).items()}
        del parameters["frozen"]
        features = self._checked(features)
        path = None if checkpoint is None else Path(checkpoint)
        fitted = fit_pixels(self.frozen, parameters, pixels, crops, features, path)
        self.network_, self.head_, self.probabilities_, self.history_, self.best_epoch_ = fitted
        self.labels_, self.confidences_ = decide(self.probabilities_)
        # What was fitted, whatever `set_params` says later.
        self._fitted_parameters, self._fitted_from = parameters, self.frozen
        return self

    def predict(
        self, pixels: np.ndarray, crops: np.ndarray, features: np.ndarray | None = None
    ) -> np.ndarray:
        """Cluster (n,) of every image; the arrays are as for :meth:`fit`."""
        return self.predict_proba(pixels, crops, features).argmax(axis=1)

    @own_settings()
    def predict_proba(
        self, pixels: np.ndarray, crops: np.ndarray, features: np.ndarray | None = None
    ) -> np.ndarray:
        """Probability (n, k) of every cluster for every image."""
        views = self._views(pixels, crops, features)
        return answer_pixels(self.network_, views, self.head_).cpu().numpy()

    @own_settings()
    def transform(
        self, pixels: np.ndarray, crops: np.ndarray, features: np.ndarray | None = None
    ) -> np.ndarray:
        """Representation (n, dim) of every image, of unit length."""
        views = self._views(pixels, crops, features)
        return assign_pixels(self.network_, views, slice(0, 0))[1].cpu().numpy()

    def save(self, folder: str | Path) -> None:
        """Write the network, and the frozen run beside it, into ``folder``; nothing is pickled."""
        save_pixel_model(self, folder)

    @classmethod
    @own_settings()
    def load(cls, folder: str | Path, device: str = "auto") -> "EndToEnd":
        """Read back what :meth:`save` wrote, onto ``device``, to predict with.

        Raises
        ------
        RunError
            If the folder is no such model, is damaged or of a newer schema.
        """
        return load_pixel_model(cls, folder, device)

    def _views(
        self, pixels: np.ndarray, crops: np.ndarray, features: np.ndarray | None
    ) -> PixelViews:
        check_is_fitted(self, "network_")
        told = self._checked(features) if self.network_.stem.anchor_widths else None
        size = self.network_.stem.image_size
        return PixelViews(pixels, crops, told, size, self.network_.device)

    def _checked(self, features: np.ndarray | None) -> np.ndarray | None:
        """(n, v, 1, f), finite; or None where no frozen run could say what they mean."""
        if self.frozen is None and features is None:
            return None
        if self.frozen is None or features is None:
            missing = "frozen" if self.frozen is None else "features"
            raise SourceError(
                "expected a frozen run and the features that it was fitted on, or neither; "
                f"{missing}= is missing"
            )
        check_is_fitted(self.frozen)
        checked = check_features(self.frozen, features, reset=False)
        n_tokens = self.frozen.network_.n_tokens
        if checked.shape[2] != 1 or n_tokens != 1:
            raise SourceError(
                f"expected features of one token a view, got {checked.shape[2]}, and a frozen run "
                f"on {n_tokens}; fit it on features[:, :, :1]"
            )
        return checked


def _plain(value: Any) -> Any:
    """Numbers of numpy, and sequences of them, as Python's own: files hold nothing else."""
    return np.asarray(value).tolist() if np.ndim(value) else getattr(value, "item", lambda: value)()
