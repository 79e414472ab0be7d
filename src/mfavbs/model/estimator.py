"""The whole method as a scikit-learn estimator.

In: features of images, (n, d), (n, v, d) or (n, v, t, d).
Out: labels (n,), probabilities (n, k), representations (n, width).
"""

from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from mfavbs.errors import SourceError
from mfavbs.model.assignment import assign, average_with_neighbours, decide
from mfavbs.model.blocks import Fusion
from mfavbs.model.checking import check_features
from mfavbs.model.head_selection import choose_head
from mfavbs.model.neighbours import nearest_neighbours
from mfavbs.model.network import Network, mean_view
from mfavbs.model.saving import load_model, save_model
from mfavbs.model.training import (
    Objective,
    accelerator_on,
    default_epochs,
    restore_projection,
    train,
)

_GATE = 0.05  # on Imagenette, seed 0: ACC 0.946 with 0.01, 0.948 with 0.05 and with 0.1
_CLUSTER_HEADS = 8
# On Imagenette with classes of 400 down to 40 images: ACC 0.86 with 0.2 or 0.3, 0.84 with 0.4.
_BALANCE = 0.3
_BANK_ROWS = 100_000  # images kept to answer others with: bounds the size of the model


class MFAVBsClustering(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
    """Cluster images by multiple fusing-augmenting ViT blocks on frozen features.

    Parameters
    ----------
    n_clusters
        k >= 2.
    objective
        Both fuse two views of an image. ``"disjoint"`` contrasts them with two other views of it
        or of a neighbour, ``"paper"`` the two halves with each other (arXiv 2511.08883).
    fusion
        ``"channel"``, ``"token"`` or ``"none"``, see :class:`mfavbs.MFAVBs`.
    n_blocks
        M >= 0, fusing-augmenting blocks in a row.
    shared_depth, fused_depth
        Transformer blocks in the shared-weight ViT and in the larger one.
    n_attention_heads
        Of both ViTs; divides ``dim``.
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
        Passes over the images; ``None`` is as many as make 300 steps, and 4 at least.
    batch_size
        Images in a batch, at the most.
    learning_rate
        Peak of the one-cycle schedule.
    instance_weight
        Weight of the instance loss beside the cluster loss; ``"auto"`` is 0 for the disjoint
        objective and 1 for the paper's.
    balance_weight
        Weight of the balance loss beside the cluster loss, and beside the linear rule where the
        head is chosen: how much clusters of equal size are wanted. ``"auto"`` is 0.3 for the
        disjoint objective and 1 for the paper's.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
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
    loss_history_
        For each epoch a dict of the mean losses.
    head_
        Number of the cluster head that answers.
    network_
        The trained :class:`mfavbs.model.Network`.
    n_features_in_
        Width d of the features.

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
        "n_clusters": [Interval(Integral, 2, None, closed="left")],
        "objective": [StrOptions({"disjoint", "paper"})],
        "fusion": [StrOptions({"channel", "token", "none"})],
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
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "instance_weight": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "balance_weight": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        objective: Objective = "disjoint",
        fusion: Fusion = "channel",
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
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        instance_weight: float | Literal["auto"] = "auto",
        balance_weight: float | Literal["auto"] = "auto",
        device: str = "auto",
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
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y: object = None, *, checkpoint: Path | None = None) -> "MFAVBsClustering":
        """Train the network on features and cluster them.

        Parameters
        ----------
        X
            (n, d) features, or (n, v, d) or (n, v, t, d) of v views of t tokens; view 0 is the
            clean one, token 0 the pooled feature.
        y
            Ignored.
        checkpoint
            File written after every epoch and gone on from where it exists.

        Raises
        ------
        SourceError
            (a ValueError) If there are fewer images than clusters, or features that are not
            finite.
        """
        self._validate_params()
        features = check_features(self, X, reset=True)
        n, _, n_tokens, n_features = features.shape
        if n < self.n_clusters:
            raise SourceError(
                f"n_samples={n} should be >= n_clusters={self.n_clusters}; "
                "lower n_clusters= or add images."
            )
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        generator = torch.Generator().manual_seed(seed)
        self.network_ = self._build(n_features, n_tokens, seed)
        self.network_.fit_projection(features, generator)
        restore_projection(self.network_, checkpoint)
        tokens = self.network_.project(features)  # (n, v, t, width)
        embeddings = mean_view(tokens)  # (n, width)
        # Half of what a cluster holds on average: in small sets more would be of other clusters.
        m = min(self.n_neighbors, n - 1, max(3, n // (2 * self.n_clusters)))
        # Without neighbours an image is its own: its views are its only positives.
        neighbours = nearest_neighbours(embeddings, m) if m else torch.arange(n)[:, None]
        if self._choose("init", "k-means++", "random") == "k-means++":
            self.network_.start_heads(embeddings, neighbours, seed)
        balance_weight = self._choose("balance_weight", _BALANCE, 1.0)
        self.loss_history_ = train(
            self.network_,
            tokens,
            neighbours,
            objective=self.objective,
            epochs=self.epochs or default_epochs(n, self.batch_size),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            instance_weight=self._choose("instance_weight", 0.0, 1.0),
            balance_weight=balance_weight,
            seed=seed,
            accelerator=accelerator_on(self.device),
            checkpoint=checkpoint,
            verbose=self.verbose,
        )
        self.probabilities_ = self._answer(tokens, embeddings, balance_weight, generator).numpy()
        self.labels_, self.confidences_ = decide(self.probabilities_)
        return self

    def _answer(
        self, tokens: Tensor, embeddings: Tensor, balance_weight: float, generator: torch.Generator
    ) -> Tensor:
        """Choose the head that answers; its probabilities (n, k)."""
        if self.objective == "paper" or not self.n_neighbors:  # nothing is asked of neighbours
            probabilities, _ = assign(self.network_, tokens)  # (h, n, k)
            self.head_ = choose_head(probabilities, embeddings, balance_weight)
            return probabilities[self.head_].clone()  # a view would keep every head's in memory
        rows = torch.randperm(len(tokens), generator=generator)[:_BANK_ROWS].sort().values
        kept = tokens if len(rows) == len(tokens) else tokens[rows]
        probabilities, representations = assign(self.network_, kept)  # (h, m, k), (m, d)
        # As the model keeps them, so that `predict` gives the same.
        answers, bank = probabilities.half(), representations.half()
        probabilities = average_with_neighbours(probabilities, representations, answers, bank)
        self.head_ = choose_head(probabilities, embeddings[rows], balance_weight)
        self.network_.keep(answers[self.head_], bank)
        if kept is tokens:
            return probabilities[self.head_].clone()
        return self._probabilities(tokens)

    def predict(self, X) -> np.ndarray:
        """Cluster (n,) of every image in ``X``; for the rows of ``fit`` these are ``labels_``."""
        return self.predict_proba(X).argmax(axis=1)

    def predict_proba(self, X) -> np.ndarray:
        """Probability (n, k) of every cluster for every image in ``X``."""
        return self._probabilities(self._project(X)).numpy()

    def transform(self, X) -> np.ndarray:
        """Representation (n, dim) of every image in ``X``, of unit length."""
        return assign(self.network_, self._project(X), slice(0, 0))[1].numpy()

    def save(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``folder``; nothing is pickled."""
        save_model(self, folder)

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> "MFAVBsClustering":
        """Read back what :meth:`save` wrote, onto ``device``.

        Raises
        ------
        RunError
            If the folder is no model, is damaged or of a newer schema.
        """
        return load_model(cls, folder, device)

    def _choose(self, name: str, disjoint: Any, paper: Any) -> Any:
        """Parameter ``name``, or what its ``"auto"`` stands for under the objective."""
        value = getattr(self, name)
        return value if value != "auto" else disjoint if self.objective == "disjoint" else paper

    def _build(self, n_features: int, n_tokens: int, seed: int) -> Network:
        if self.dim % self.n_attention_heads:
            raise SourceError(
                f"dim={self.dim} should be a multiple of "
                f"n_attention_heads={self.n_attention_heads}."
            )
        with torch.random.fork_rng(devices=[]):  # leaves the caller's random numbers alone
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed CUDA too
            return Network(
                n_features,
                n_tokens,
                self.n_clusters,
                self._choose("n_cluster_heads", _CLUSTER_HEADS, 1),
                self.dim,
                n_blocks=self.n_blocks,
                shared_depth=self.shared_depth,
                fused_depth=self.fused_depth,
                n_heads=self.n_attention_heads,
                fusion=self.fusion,
                gate=self._choose("gate", _GATE, None),
            )

    def _probabilities(self, tokens: Tensor) -> Tensor:
        network, own = self.network_, slice(self.head_, self.head_ + 1)
        probabilities, representations = assign(network, tokens, own)  # (1, n, k), (n, d)
        if len(network.bank_probabilities):
            answers = network.bank_probabilities.cpu()[None]
            bank = network.bank_representations.cpu()
            probabilities = average_with_neighbours(probabilities, representations, answers, bank)
        return probabilities[0]

    def _project(self, X) -> Tensor:
        check_is_fitted(self)
        features = check_features(self, X, reset=False)
        expected = self.network_.mean.shape[0]
        if features.shape[2] != expected:
            raise SourceError(
                f"X has {features.shape[2]} tokens a view, but MFAVBsClustering was fitted with "
                f"{expected}: embed the images with the same grid."
            )
        return self.network_.project(features)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]  # transform returns it for any other
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.dim
