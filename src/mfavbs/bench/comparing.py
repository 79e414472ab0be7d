"""`mfavbs bench`: the method, its ablations and its peers on one data set.

In: labelled images or a feature store of them, names of methods, seeds.
Out: a folder with the result of each trial, written as soon as it is known (``results.py``), and
the table of them: ``bench.json``, ``bench.csv``, ``bench.md``. Interrupted, the same call goes on.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# torch and scikit-learn are imported where they are needed: what can be refused without them is
# refused at once, and not after the seconds that they take.
from mfavbs.bench import methods
from mfavbs.bench.from_pixels import FROM_PIXELS
from mfavbs.bench.results import (
    RESULTS,
    begin_results,
    check_folder,
    identity,
    read_result,
    write_result,
)
from mfavbs.bench.table import row_of, write_tables
from mfavbs.bench.trial import TrialError, run_trial
from mfavbs.datasets import DATASETS, open_dataset
from mfavbs.devices import check_device, pick_device
from mfavbs.encoders import DEFAULT_ENCODER, Names, Sizes, Weights, check_encoder
from mfavbs.errors import SourceError
from mfavbs.features import FeatureStore
from mfavbs.files import read_json, user_path
from mfavbs.images import Images, views_of
from mfavbs.locking import alone_in, check_alone
from mfavbs.progress import Progress
from mfavbs.runs import FEATURES, PIXELS, unwritable
from mfavbs.sources import ArraySource, ImageSource, StoreSource, open_source
from mfavbs.urls import is_url, without_secrets

if TYPE_CHECKING:
    import torch


def bench(
    source: str | Path,
    names: Sequence[str],
    *,
    out: str | Path,
    seeds: Sequence[int] = (0, 1, 2),
    n_clusters: int | None = None,
    data: str | Path | None = None,
    encoder: Names = DEFAULT_ENCODER,
    weights: Weights = None,
    image_size: Sizes = None,
    grid: int = 0,
    n_views: int = 5,
    augment: str = "default",
    resolution: int = 64,
    epochs: int | None = None,
    n_workers: int | None = None,
    device: str = "auto",
    verbose: bool = True,
) -> dict[str, Any]:
    """Run every method with every seed, each in a process of its own, and make the table.

    Parameters
    ----------
    source
        A feature store; images in one sub-folder for each label (a folder or a ``.tar``); or the
        name of a data set, see :func:`mfavbs.open_dataset`. What exists as a path is
        taken for a path.
    names
        Of :data:`mfavbs.bench.OURS`, :data:`mfavbs.bench.PEERS` and
        :data:`mfavbs.bench.FROM_PIXELS`; the last need images, not a feature store.
    out
        Folder of the results. Those that it already holds are not computed again.
    seeds
        Of the methods; the views are always drawn with seed 0.
    n_clusters
        k; by default the number of labels.
    data
        Folder where the data set lies.
    encoder, weights, image_size, grid, n_views, augment, n_workers
        As in :func:`mfavbs.cluster_images`; not looked at where the source is a feature store.
    resolution, epochs
        Of the methods that look at pixels, see :class:`mfavbs.model.EndToEnd`.
    device
        Of the encoder and of mfavbs; the peers run on the CPU.
    verbose
        Show progress on stderr.

    Returns
    -------
    dict
        What ``bench.json`` holds: ``rows`` with the mean, the standard deviation and the worst of
        each method's scores, and what they are of.

    Raises
    ------
    MfavbsError
        A method or data set is unknown, there are no labels, or ``out`` holds results of other
        features, another k or other parameters.
    """
    out = user_path(out)
    names = list(dict.fromkeys(names))
    methods.check_methods(names)
    check_device(device)
    n_views = views_of(augment, n_views)
    check_encoder(encoder, weights=weights, image_size=image_size, grid=grid)
    opened, truth, size = _open(source, data)
    at_pixels = [name for name in names if name in FROM_PIXELS]
    if at_pixels and opened.images is None:
        raise SourceError(
            f"expected images for {', '.join(at_pixels)}, got {opened.identity}; give what these "
            "features are of"
        )
    if at_pixels:
        from mfavbs.model import check_image_size

        check_image_size(resolution)
    check_folder(out)
    check_alone(out)
    place = pick_device(device)
    asked = {"encoder": encoder, "weights": weights, "image_size": image_size or size, "grid": grid}
    loaded = opened.load_encoder(asked)  # before a folder is begun for its features
    with alone_in(out):
        begin_results(out)
        if isinstance(opened, StoreSource):
            store = opened.store
        else:
            from mfavbs.features import embed

            assert loaded is not None
            store = embed(
                opened.images,
                out / FEATURES,
                loaded,
                n_views=n_views,
                augment=augment,
                n_workers=n_workers,
                device=device,
                verbose=verbose,
            )
        changed = {"image_size": resolution} | ({} if epochs is None else {"epochs": epochs})
        pixels = _pixels(at_pixels, store, opened.images, out, resolution, verbose)
        labels = [truth[key] for key in store.keys]
        k = len(set(labels)) if n_clusters is None else n_clusters
        if not 2 <= k <= len(labels):
            raise SourceError(f"n_clusters={k} should be in 2..{len(labels)}, the images")
        truth_of = dict(zip(store.keys, labels, strict=True))
        about = {"features": identity(store, labels), "n_clusters": k}
        abouts = {
            name: about
            | {"parameters": methods.parameters_of(name, changed if name in at_pixels else None)}
            for name in names
        }
        found = {
            name: {s: r for s in seeds if (r := read_result(out, name, s, abouts[name]))}
            for name in names
        }
        errors = _run_missing(
            found, abouts, seeds, store.path, truth_of, out, place, verbose, (pixels, changed)
        )
        results = [result for name in names for result in found[name].values()]
        summary = {
            "source": Path(without_secrets(str(source))).name,
            "shape": list(store.features.shape),
            "n_failures": len(store.failures),
            "n_labels": len(set(labels)),
            **about,
            "seeds": list(seeds),
            "machines": sorted({result["machine"] for result in results}),
            "rows": [row_of(name, list(found[name].values()), errors.get(name)) for name in names],
        }
        try:
            write_tables(out, summary)
        except OSError as error:
            raise unwritable(out, error) from error
    return summary


def _pixels(
    names: list[str],
    store: FeatureStore,
    images: Images | None,
    out: Path,
    resolution: int,
    verbose: bool,
) -> Path:
    """The folder with the pixels beside the features, made where a method looks at them."""
    from mfavbs.features import store_pixels

    folder = out / PIXELS
    if names and images is not None:
        if (read_json(folder / "pixels.json") or {}).get("image_size", resolution) != resolution:
            shutil.rmtree(folder)  # those of an earlier call: results of both are kept apart
        store_pixels(
            store, images, folder, edge=2 * resolution, image_size=resolution, verbose=verbose
        )
    return folder


def _open(
    source: str | Path, data: str | Path | None
) -> tuple[ImageSource | StoreSource, dict[str, str], int | None]:
    """Images or their features; the label of every key; the image size that a data set asks for."""
    if not is_url(str(source)) and not user_path(source).exists():
        if str(source) not in DATASETS:
            raise SourceError(
                f"{source} does not exist, and no data set has that name; expected a path or one "
                f"of {', '.join(DATASETS)}."
            )
        found = open_dataset(str(source), data or ".")
        truth = dict(zip(found.images.keys, found.labels, strict=True))
        return ImageSource(found.images), truth, found.image_size
    opened = open_source(source)
    labels = opened.folders
    if isinstance(opened, ArraySource) or labels is None:
        raise SourceError(
            f"{source} has no labels to score against; expected images in a sub-folder for each "
            "label, or a feature store of such images."
        )
    return opened, dict(zip(opened.keys, labels, strict=True)), None


def _run_missing(
    found: dict[str, dict[int, dict]],
    abouts: dict[str, dict],
    seeds: Sequence[int],
    store: Path,
    truth: dict[str, str],
    out: Path,
    device: "torch.device",
    verbose: bool,
    pixels: tuple[Path, dict[str, Any]],
) -> dict[str, str]:
    """Add to ``found`` the results of the seeds that it lacks; return why a method failed."""
    errors: dict[str, str] = {}
    missing = [(name, seed) for name in abouts for seed in seeds if seed not in found[name]]
    n_trials = len(found) * len(seeds)
    with Progress("bench", n_trials, "trials", n_trials - len(missing), show=verbose) as progress:
        for name, seed in missing:
            if name not in errors:  # what fails with one seed fails with the next
                progress.advance(0, f"{name}, seed {seed} is running", at_once=True)
                log = out / RESULTS / f"{name}-{seed}.log"
                k = abouts[name]["n_clusters"]
                try:
                    more = pixels if name in FROM_PIXELS else ()
                    answer = run_trial(store, name, k, seed, str(device), log, *more)
                    found[name][seed] = write_result(
                        out, name, seed, abouts[name], truth, answer, device
                    )
                except TrialError as error:
                    errors[name] = f"seed {seed}: {error}"
            progress.advance(1, "")
    return errors
