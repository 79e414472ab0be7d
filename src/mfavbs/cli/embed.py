"""The command `mfavbs embed`: parses, calls, prints."""

from typing import Annotated

import typer

from mfavbs.cli.options import (
    DEFAULT_ENCODER,
    IMAGE_MEMORY,
    AugmentOption,
    CacheOption,
    DeviceOption,
    EncoderOption,
    EngineOption,
    ExcludeOption,
    FitOption,
    GridOption,
    ImageMemoryOption,
    ImageSizeOption,
    JsonOption,
    QuietOption,
    RangeOption,
    RayAddressOption,
    SeedOption,
    SourceArgument,
    ViewsOption,
    WeightsOption,
    WorkersOption,
    parsed_range,
)
from mfavbs.cli.output import counted, print_json, say_left_out, say_views, unless
from mfavbs.encoders import encoder_name
from mfavbs.images import views_of
from mfavbs.urls import without_secrets


def embed(
    source: SourceArgument,
    out: Annotated[
        str, typer.Option(metavar="STORE", help="Folder of the feature store, or its URL.")
    ],
    encoder: EncoderOption = None,
    weights: WeightsOption = None,
    image_size: ImageSizeOption = None,
    n_views: ViewsOption = 5,
    augment: AugmentOption = "default",
    grid: GridOption = 0,
    exclude: ExcludeOption = None,
    fit: FitOption = None,
    value_range: RangeOption = "type",
    image_memory: ImageMemoryOption = IMAGE_MEMORY,
    seed: SeedOption = 0,
    cache: CacheOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read files whose name, size and date are as before.")
    ] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Prune what images that are gone have left in STORE.")
    ] = False,
    n_workers: WorkersOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Encode the images of SOURCE once; when they have changed, those that are new."""
    say = unless(quiet)
    encoder = encoder or [DEFAULT_ENCODER]
    say(f"Encoding the images of {without_secrets(source)} with {encoder_name(encoder)}, in {out}")
    n_views = views_of(augment, n_views)
    from mfavbs.devices import check_device
    from mfavbs.encoders import check_encoder
    from mfavbs.engines import check_engine, engine_of
    from mfavbs.features import (
        FeatureStore,
        check_store,
        nearest_own,
        nothing_new,
        remember,
        store_folder,
        words_of,
    )
    from mfavbs.features import compact as make_compact
    from mfavbs.images import checked_range, open_images
    from mfavbs.locking import check_alone

    check_encoder(encoder, weights=weights, image_size=image_size, grid=grid, fit=fit)
    check_device(device)
    check_engine(engine, ray_address, n_workers)
    checked_range(parsed_range(value_range))
    given = {"grid": grid, "n_views": n_views, "augment": augment, "seed": seed}
    check_store(out, {"encoder": encoder_name(encoder), **given})
    folder = store_folder(out)
    check_alone(folder)
    images = open_images(source, exclude=exclude or ())
    asked = words_of(
        weights,
        encoder=encoder,
        image_size=image_size,
        n_views=n_views,
        augment=augment,
        grid=grid,
        fit=fit,
        range=value_range,
        image_memory=image_memory,
        seed=seed,
        source=images.location,
    )
    store = None if verify else nothing_new(folder, asked, images)
    done, changed = store is not None, {}
    if (folder / "store.json").exists():
        diff = FeatureStore.open(folder).diff(images)
        changed = {name: len(keys) for name, keys in diff._asdict().items()}
        if done:
            say(f"Nothing to do: {diff}")
    if store is None:
        from mfavbs.encoders import load_encoder
        from mfavbs.features import embed as embed_images

        store = embed_images(
            images,
            folder,
            load_encoder(encoder, weights=weights, image_size=image_size, grid=grid, fit=fit),
            n_views=n_views,
            augment=augment,
            seed=seed,
            value_range=parsed_range(value_range),
            image_memory=image_memory,
            verify=verify,
            cache=cache,
            device=device,
            n_workers=n_workers,
            engine=engine_of(engine, ray_address),
            verbose=not quiet,
        )
        remember(folder, asked)
    if compact:
        make_compact(folder)
        store = FeatureStore.open(folder)
    n, v, t, d = store.features.shape
    widths = f" ({' + '.join(map(str, store.blocks))})" if len(store.blocks) > 1 else ""
    say(
        f"{counted(n, 'image')}, {counted(v, 'view')} of {counted(t, 'token')} of width "
        f"{d}{widths}: {store.location}"
    )
    nearest = nearest_own(store.features)
    say_views(say, nearest)
    counts = say_left_out(
        say, store.tables, len(store.failures), len(store.skipped), len(store.notes)
    )
    about = {"store": out, "shape": [n, v, t, d], "changes": changed}
    print_json(about | {"views_nearest_own": nearest, **counts}, as_json)
