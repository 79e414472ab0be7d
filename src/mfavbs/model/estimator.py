"""The whole method as a scikit-learn estimator.

In: features of images, (n, d), (n, v, d) or (n, v, t, d).
Out: labels (n,), probabilities (n, k), representations (n, width).
"""

from numbers import Integral, Real
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from mfavbs.errors import SourceError
from mfavbs.memory import Memory, checked_memory
from mfavbs.model.answers import answered, fill
from mfavbs.model.asking import Number, checked_number
from mfavbs.model.assignment import assign, decide
from mfavbs.model.blocks import Fusion
from mfavbs.model.checking import check_features
from mfavbs.model.fitting import fit_network
from mfavbs.model.isolation import own_settings
from mfavbs.model.room import ANSWERS, Room, make_array
from mfavbs.model.saving import load_model, save_model
from mfavbs.model.training import Objective


class MFAVBsClustering(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
    """Cluster images by multiple fusing-augmenting ViT blocks on frozen features.

    Parameters
    ----------
    n_clusters
        k >= 2; ``"auto"``, or a range as ``(5, 60)``, to have it found: the number with most
        evidence, which is told without training (:func:`mfavbs.model.tell_number`).
    objective
        ``"disjoint"`` contrasts two views of an image, fused or not, with two other views of it or
        of a neighbour, ``"paper"`` the two halves of a fused pair (arXiv 2511.08883).
    fusion
        ``"channel"``, ``"token"`` or ``"none"``, see :class:`mfavbs.MFAVBs`; ``"auto"`` is
        the last for the disjoint objective, where fusion did not pay, and ``"token"`` for the
        paper's.
    n_blocks
        M >= 0, fusing-augmenting blocks in a row.
    shared_depth, fused_depth
        Transformer blocks in the shared-weight ViT and in the larger one.
    n_attention_heads
        Of both ViTs; divides ``dim``. With a single token attention is a linear map, however many
        heads it has, see :class:`mfavbs.MFAVBs`.
    dim
        Width of the network's tokens: directions kept of the features.
    gate
        Start of the residual branches' learned scale; ``None`` leaves it out; ``"auto"`` is 0.05
        for the disjoint objective and ``None`` for the paper's.
    init
        Start of the cluster heads: ``"k-means++"`` takes the centroids of the best k-means of
        the features, another for each head, ``"random"`` random directions; ``"auto"`` is the
        former for the disjoint objective and the latter for the paper's.
    n_cluster_heads
        Heads trained side by side, of which the one answers that a linear rule predicts best
        (:func:`mfavbs.model.choose_head`); ``"auto"`` is 8 for the disjoint objective and 1 for
        the paper's.
    n_neighbors
        Neighbours of an image taken for positives; in small sets no more than half of what a
        cluster holds on average. 0 takes the image's own views, and asks no neighbour at the end.
    epochs
        Passes over the images; ``None`` is as many as make 300 steps, and 4 at least, for the
        disjoint objective, and 2,000 steps and 50 at least for the paper's.
    batch_size
        Images in a batch, at the most, and half as many as clusters at least. ``"auto"`` is 256,
        or half of ``n_clusters`` where that is more.
    learning_rate
        Peak of the one-cycle schedule.
    instance_weight
        Weight of the instance loss beside the cluster loss, which is not computed at 0; ``"auto"``
        is 0 for the disjoint objective and 1 for the paper's.
    balance_weight
        Weight of the balance loss beside the cluster loss, and beside the linear rule where the
        head is chosen: how much clusters of equal size are wanted. ``"auto"`` is 0.1 for the
        disjoint objective and 1 for the paper's.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``, or any other name torch has for one.
    memory
        What may be held in memory, beside the libraries (half a GiB): bytes, or a size as
        ``"8G"``; None is half of what the machine, a container or a job allows. What does not fit
        is held in float16, and then in files that are gone with the process.
    random_state
        Seed; the same seed on the same machine gives the same labels.
    verbose
        Show progress on stderr.

    Attributes
    ----------
    labels_
        (n,) cluster of every image.
    confidences_
        (n,) probability of that cluster, in [1/k, 1].
    probabilities_
        (n, k).
    n_clusters_
        k, given or found.
    number_
        How k was found, as :func:`mfavbs.model.tell_number` has it; None where it was given.
    loss_history_
        For each epoch a dict of the mean losses.
    head_
        Number of the cluster head that answers.
    stages_
        ``seconds`` and ``peak_memory_mib`` of every stage of the fit, by name.
    network_
        The trained :class:`mfavbs.model.Network`.
    n_features_in_
        Width d of the features.

    Notes
    -----
    Every feature is scaled to unit length first: directions are compared, as encoders of images
    want it. Fewer than 8 features are positions or measurements, whose length says something too:
    they are centred, and given one more column, as long as they are in the mean, so that the
    length decides the direction. To have more features of such a kind taken so, append it, as in
    ``np.c_[X, np.full(len(X), np.linalg.norm(X, axis=1).mean())]`` of centred ones.

    Rows equal to the last bit, copies of one image, are trained on once and all labelled.

    A model that was loaded has no ``labels_``, ``confidences_``, ``probabilities_``, ``stages_``
    and ``number_``, which are of the images and not of the model (:meth:`predict_proba` gives the
    probabilities again); all else it has.

    References
    ----------
    Improve Contrastive Clustering Performance by Multiple Fusing-Augmenting ViT Blocks, arXiv
    2511.08883.

    Contrastive Clustering, AAAI 2021, arXiv 2009.09687.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from mfavbs import MFAVBsClustering
    >>> X = load_digits().data
    >>> model = MFAVBsClustering(n_clusters=10, epochs=2, random_state=0).fit(X)
    >>> model.labels_.shape
    (1797,)
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_clusters": [
            Interval(Integral, 2, None, closed="left"),
            StrOptions({"auto"}),
            tuple,
            list,
        ],
        "objective": [StrOptions({"disjoint", "paper"})],
        "fusion": [StrOptions({"auto", "channel", "token", "none"})],
        "n_blocks": [Interval(Integral, 0, None, closed="left")],
        "shared_depth": [Interval(Integral, 0, None, closed="left")],
        "fused_depth": [Interval(Integral, 0, None, closed="left")],
        "n_attention_heads": [Interval(Integral, 1, None, closed="left")],
        "dim": [Interval(Integral, 1, None, closed="left")],
        "gate": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"}), None],
        "init": [StrOptions({"auto", "k-means++", "random"})],
        "n_cluster_heads": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "n_neighbors": [Interval(Integral, 0, None, closed="left")],
        "epochs": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 2, None, closed="left"), StrOptions({"auto"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "instance_weight": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "balance_weight": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "device": [str],
        "memory": [Interval(Integral, 1, None, closed="left"), str, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_clusters: Number | list[int] = 8,
        *,
        objective: Objective = "disjoint",
        fusion: Fusion | Literal["auto"] = "auto",
        n_blocks: int = 1,
        shared_depth: int = 1,
        fused_depth: int = 1,
        n_attention_heads: int = 4,
        dim: int = 128,
        gate: float | Literal["auto"] | None = "auto",
        init: Literal["auto", "k-means++", "random"] = "auto",
        n_cluster_heads: int | Literal["auto"] = "auto",
        n_neighbors: int = 10,
        epochs: int | None = None,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float = 1e-3,
        instance_weight: float | Literal["auto"] = "auto",
        balance_weight: float | Literal["auto"] = "auto",
        device: str = "auto",
        memory: Memory = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_clusters = n_clusters
        self.objective = objective
        self.fusion = fusion
        self.n_blocks = n_blocks
        self.shared_depth = shared_depth
        self.fused_depth = fused_depth
        self.n_attention_heads = n_attention_heads
        self.dim = dim
        self.gate = gate
        self.init = init
        self.n_cluster_heads = n_cluster_heads
        self.n_neighbors = n_neighbors
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.instance_weight = instance_weight
        self.balance_weight = balance_weight
        self.device = device
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    @own_settings()
    def fit(self, X, y: object = None, *, checkpoint: Path | None = None) -> "MFAVBsClustering":
        """Train the network on features and cluster them.

        Parameters
        ----------
        X
            (n, d) features, or (n, v, d) or (n, v, t, d) of v views of t tokens; view 0 is the
            clean one, token 0 the pooled feature. An array or a tensor.
        y
            Ignored.
        checkpoint
            File written after every epoch and gone on from where it exists; one of other features
            or parameters is refused.

        Raises
        ------
        SourceError
            (a ValueError) If there are fewer images than clusters, or features that are not
            finite.
        MfavbsError
            If the training diverges.
        """
        self._validate_params()
        checked_number(self.n_clusters)
        features = check_features(self, X, reset=True)
        parameters = self.get_params()
        fitted = fit_network(features, parameters, checkpoint)
        # What was fitted, whatever `set_params` says later.
        self.network_, self.head_, self.probabilities_ = fitted[:3]
        self.loss_history_, self.number_, self.stages_ = fitted[3:]
        self.n_clusters_ = self.network_.n_clusters
        self._fitted_parameters = parameters | {"n_clusters": self.n_clusters_}
        self.labels_, self.confidences_ = decide(self.probabilities_)
        return self

    def predict(self, X) -> np.ndarray:
        """Cluster (n,) of every image in ``X``; for the rows of ``fit`` these are ``labels_``."""
        return self.predict_proba(X).argmax(axis=1)

    @own_settings()
    def predict_proba(self, X) -> np.ndarray:
        """Probability (n, k) of every cluster for every image in ``X``."""
        features = self._checked(X)
        shape = (len(features), self.network_.n_clusters)
        found = make_array(shape, ANSWERS, Room(checked_memory(self.memory)))
        fill(found, answered(self.network_, self.network_.parts(features), self.head_))
        return found

    @own_settings()
    def transform(self, X) -> np.ndarray:
        """Representation (n, dim) of every image in ``X``, of unit length."""
        features = self._checked(X)
        found = np.empty((len(features), self.network_.width), np.float32)
        parts = self.network_.parts(features)
        none = slice(0, 0)
        fill(found, (assign(self.network_, part, none)[1].cpu().numpy() for part in parts))
        return found

    def save(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``folder``; nothing is pickled."""
        save_model(self, folder)

    @classmethod
    @own_settings()
    def load(cls, folder: str | Path, device: str = "auto") -> "MFAVBsClustering":
        """Read back what :meth:`save` wrote, onto ``device``.

        It has all the attributes but ``labels_``, ``confidences_``, ``probabilities_``,
        ``stages_`` and ``number_``.

        Raises
        ------
        RunError
            If the folder is no model, is damaged or of a newer schema.
        """
        return load_model(cls, folder, device)

    def _checked(self, X) -> np.ndarray:
        check_is_fitted(self)
        features = check_features(self, X, reset=False)
        expected = self.network_.n_tokens
        if features.shape[2] != expected:
            raise SourceError(
                f"X has {features.shape[2]} tokens a view, but MFAVBsClustering was fitted with "
                f"{expected}: embed the images with the same grid."
            )
        return features

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]  # transform returns it for any other
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.network_.width
