"""The plain rival of training from pixels: the last block of the frozen encoder, trained.

What MobileNetV2 makes of the stored views before its last block is computed once and kept, 5 kB a
view at 128 px. Then its last block and last convolution are trained with the frozen run's blocks
and heads by the same losses, from the frozen answer; epochs are judged by the same rule. In:
feature stores and their images. Out: a JSON line for each set, learning rate and seed. Figures:
docs/performance.md.

    python benchmarks/last_block.py --set rsscn7 STORE rsscn7.tar 128 --weights FILE --out FILE
"""

import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pixel_runs import Job, Record, fitted, jobs_of, loaded, measured, parser_of, run_all
from torch import Tensor, nn

from mfavbs import FeatureStore, MFAVBsClustering, embed, load_encoder, open_images, score
from mfavbs.devices import on_device, pick_device
from mfavbs.model import Network, PixelView, mean_view, nearest_neighbours, train_pixels

RATES = "1e-4,3e-5,3e-4"


class Before(nn.Module):
    """MobileNetV2 up to its last block, as the tower of an encoder."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        trunk = self.trunk
        maps = trunk.blocks[:-1](trunk.bn1(trunk.conv_stem(x)))  # (b, c, g, g)
        return maps.flatten(1), None


class LastBlock(nn.Module):
    """What is left of the encoder, and the frozen run's network on its feature.

    It takes the place of a :class:`mfavbs.model.PixelNetwork`: a view's ``feature`` is its map.
    """

    def __init__(self, trunk: Any, shape: tuple[int, ...], frozen: Network) -> None:
        super().__init__()
        # Batch norms are folded into the convolutions: with them nothing is learned of a batch.
        parts = (trunk.blocks[-1], trunk.conv_head, trunk.bn2, trunk.global_pool)
        self.last = copy.deepcopy(nn.Sequential(*parts)).float()
        self.shape = shape  # (c, g, g)
        self.frozen = copy.deepcopy(frozen)
        self.cluster_heads = self.frozen.cluster_heads
        self.instance_head = self.frozen.instance_head

    def forward(self, view_a: PixelView, view_b: PixelView) -> tuple[Tensor, Tensor]:
        return self.frozen(self.tokens(view_a.feature), self.tokens(view_b.feature))

    def tokens(self, maps: Tensor) -> Tensor:
        feature = self.last(maps.unflatten(1, self.shape)).flatten(1)  # (b, f)
        # The projection is the frozen run's answer, which bfloat16 would change.
        with torch.autocast(maps.device.type, enabled=False):
            centred = F.normalize(feature.float(), dim=-1) - self.frozen.mean
            return (centred @ self.frozen.components)[:, None]  # (b, 1, d)

    @property
    def device(self) -> torch.device:
        return self.frozen.device

    @property
    def n_clusters(self) -> int:
        return self.frozen.n_clusters

    @property
    def n_cluster_heads(self) -> int:
        return self.frozen.n_cluster_heads

    @property
    def is_symmetric(self) -> bool:
        return all(block.axis != -1 for block in self.frozen.mfavbs.blocks)

    def started(self) -> list[nn.Parameter]:
        """None: all of it was trained before, and moves by one rate."""
        return []


class Maps:
    """Stored views as maps (n, v, 1, f), in place of :class:`mfavbs.model.PixelViews`."""

    def __init__(self, maps: np.ndarray, device: torch.device) -> None:
        self.maps = torch.from_numpy(maps[:, :, 0]).to(device)  # (n, v, f) float16
        self.device, self.n_views = device, maps.shape[1]

    def __len__(self) -> int:
        return len(self.maps)

    def pair(
        self, image: Tensor, views: tuple[Tensor, Tensor], *unused: Any
    ) -> tuple[PixelView, PixelView]:
        rows = on_device(image, self.device)
        one, other = (self._view(rows, on_device(view, self.device)) for view in views)
        return one, other

    def stored(self, image: np.ndarray, step: int = 1) -> tuple[PixelView, PixelView]:
        first = torch.arange(0, self.n_views, step, device=self.device)
        rows = on_device(image, self.device)[:, None]
        places = (first, (first + 1) % self.n_views)
        one, other = (self._view(*torch.broadcast_tensors(rows, place)) for place in places)
        return one, other

    def _view(self, rows: Tensor, which: Tensor) -> PixelView:
        maps = self.maps[rows, which].float().flatten(0, -2)
        return PixelView(maps[:, :0], maps, maps.new_ones(len(maps), dtype=torch.bool))


def loaded_encoder(weights: Path, image_size: int) -> Any:
    return load_encoder("timm:mobilenetv2_100", weights=weights, image_size=image_size)


def keep_maps(store: str, source: str, out: Path, weights: Path, device: str) -> None:
    """Maps (n, v, 1, c g g) of the very views that a feature store is of, as another one."""
    found = FeatureStore.open(store)
    asked = {name: found.parameters[name] for name in ("n_views", "seed", "augment")}
    encoder = loaded_encoder(weights, found.parameters["image_size"])
    encoder.tower = Before(encoder.tower.trunk)
    begun = time.perf_counter()
    maps = embed(open_images(source), out, encoder, **asked, cache="off", device=device)
    print(f"{out}: maps in {time.perf_counter() - begun:.1f} s", flush=True)
    if list(maps.keys) != list(found.keys):
        raise SystemExit(f"{source} has other images than {store}; embed it again")


def trained(job: Job) -> dict[str, Any]:
    """What a learning rate made of a set."""
    data, seed, device = loaded(job.data), job.about["seed"], pick_device(job.options["device"])
    frozen = fitted(job.data, job.options["dim"], seed, job.options["device"])
    answer = score(data.labels, frozen.labels_)
    found = FeatureStore.open(job.options["maps"])
    rows = np.random.default_rng(0).permutation(len(found.keys))[: job.options["images"]]
    maps = np.asarray(found.features[np.sort(rows)])  # as `opened` has them
    trunk = loaded_encoder(job.options["weights"], found.parameters["image_size"]).tower.trunk
    channels = trunk.blocks[-1][0].conv_pw.in_channels
    edge = round((maps.shape[-1] / channels) ** 0.5)
    network = LastBlock(trunk, (channels, edge, edge), frozen.network_).to(device)
    views, rate = Maps(maps, device), float(job.about["method"])
    record = Record(data.labels, weights=False)
    begun = time.perf_counter()
    history, best = fit(network, views, data.features, frozen, job, rate, record)
    scores = record.epochs[best.epoch]
    head = history[best.epoch]["head"]
    return {
        "frozen": answer,
        **{name: scores[name][head] for name in ("acc", "nmi")},
        "best_epoch": best.epoch,
        "alike": alike(network, data.features, maps, trunk, frozen),
        "history": [old | new for old, new in zip(history, record.epochs, strict=True)],
        "seconds": round(time.perf_counter() - begun, 1),
    }


def fit(
    network: LastBlock,
    views: Maps,
    features: np.ndarray,
    frozen: MFAVBsClustering,
    job: Job,
    rate: float,
    record: Record,
) -> tuple[list[dict], Any]:
    """The losses and the judgement of every epoch, and the one that is kept."""
    embeddings = mean_view(frozen.network_.project(features))
    m = min(10, max(3, len(views) // (2 * network.n_clusters)))
    neighbours = nearest_neighbours(embeddings, m)
    rows = np.arange(len(views))

    def judge(epoch: int) -> dict[str, Any]:
        record.measure = lambda: measured(
            network, views, embeddings, rows, record.labels, 0.1, averaged=True
        )
        record.see(network)
        found = record.epochs[-1]["criterion"]
        head = frozen.head_ if epoch == 0 else int(np.argmin(found))
        record.since = time.perf_counter()
        return {"criterion": found[head], "head": head}

    return train_pixels(
        network,
        views,
        neighbours,
        judge,
        epochs=job.options["epochs"],
        learning_rate=rate,
        instance_weight=0.0,
        balance_weight=0.1,
        anchor_drop=0.0,
        seed=job.about["seed"],
    )


@torch.no_grad()
def alike(
    network: LastBlock, features: np.ndarray, maps: np.ndarray, trunk: Any, frozen: MFAVBsClustering
) -> float:
    """Least cosine between the store's features and those that the untrained last block makes."""
    start = LastBlock(trunk, network.shape, frozen.network_).to(network.device)
    given = torch.from_numpy(maps[:64, 0, 0]).to(network.device).float()
    made = start.last(given.unflatten(1, start.shape)).flatten(1).cpu()
    return float(F.cosine_similarity(made, torch.from_numpy(features[:64, 0, 0]).float()).min())


def main() -> None:
    parser = parser_of(__doc__, RATES)  # a method is a learning rate
    parser.add_argument("--weights", type=Path, required=True, help="of mobilenetv2_100")
    args = parser.parse_args()
    jobs = []
    for job in jobs_of(args, {"what": "last block"}):
        more = {"maps": args.folder / f"{job.about['set']}.maps", "weights": args.weights}
        jobs.append(job._replace(options=job.options | more | {"images": args.images}))
    for name, store, source, _ in args.set:
        keep_maps(store, source, args.folder / f"{name}.maps", args.weights, args.device)
    run_all(args, jobs, trained)


if __name__ == "__main__":
    main()
