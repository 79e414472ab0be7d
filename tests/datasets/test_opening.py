"""In: folders, tars and torchvision's files, laid out as the sets are. Out: images and labels."""

import hashlib
import io
import pickle
import tarfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torchvision
from image_files import encoded, red, write

from mfavbs.datasets.opening import DATASETS, open_dataset
from mfavbs.datasets.protocols import SETS
from mfavbs.encoders.loading import load_encoder
from mfavbs.errors import SourceError
from mfavbs.features.embedding import embed
from mfavbs.images import content_hash, decode

SHARED = Path(__file__).parents[3] / "shared" / "data"
NAMES = {
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck",
    "stl10": "airplane bird car cat deer dog horse monkey ship truck",
    # As the archive numbers them, 0 to 99.
    "cifar100": "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy "
    "bridge bus butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud "
    "cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl "
    "hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree "
    "motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck "
    "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal "
    "shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper "
    "table tank telephone television tiger tractor train trout tulip turtle wardrobe whale "
    "willow_tree wolf woman worm",
    "uc-merced": "agricultural airplane baseballdiamond beach buildings chaparral denseresidential "
    "forest freeway golfcourse harbor intersection mediumresidential mobilehomepark overpass "
    "parkinglot river runway sparseresidential storagetanks tenniscourt",
    "imagenet10": "n02056570 n02085936 n02128757 n02690373 n02692877 n03095699 n04254680 n04285008 "
    "n04467665 n07747607",
    "imagenet-dogs": "n02085936 n02086646 n02088238 n02091467 n02097130 n02099601 n02101388 "
    "n02101556 n02102177 n02105056 n02105412 n02105855 n02107142 n02110958 n02112137",
    "imagenette": "n01440764 n02102040 n02979186 n03000684 n03028079 n03394916 n03417042 n03425413 "
    "n03445777 n03888257",
}
CIFAR10, STL10, CIFAR100, UC_MERCED, IMAGENET10, DOGS, IMAGENETTE = map(str.split, NAMES.values())
AID, DTD, RSOD = ([*SETS[name].classes] for name in ("aid", "dtd", "rsod"))
TINY = [f"n{n:08d}" for n in range(200)]
PNG = encoded(red())


def folders(root, names, file="0.png", n=1):
    for name in names:
        for i in range(n):
            write(root / name / f"{i}{file}", PNG)
    return root


def tarred(path, keys):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for n, key in enumerate(keys):
            content = encoded(red(width=n + 1))
            info = tarfile.TarInfo(key)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def opened(name, folder):
    """The set, of which made-up folders have fewer images than the protocol."""
    with pytest.warns(UserWarning, match=rf"expected [\d,]+ images of {name} .* found \d+;"):
        return open_dataset(name, folder)


def complete(name, folder=SHARED):
    """The set, of which no image is missing: nothing is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return open_dataset(name, folder)


# Every set in the layout that its archive unpacks to, or that its users keep it in.
LAYOUTS = [
    ("cifar10", ["train", "test"], CIFAR10, 10),
    ("cifar10", ["cifar10/train", "cifar10/test"], CIFAR10, 10),
    ("cifar10-test", ["test"], CIFAR10, 10),
    ("cifar10-animals", ["cifar10-test"], CIFAR10, 6),
    ("cifar100", ["train", "test"], CIFAR100, 20),
    ("stl10", ["stl10-train", "stl10-test"], STL10, 10),
    ("imagenet10", ["train"], [*IMAGENET10, *DOGS], 10),
    ("imagenet10", ["."], [*IMAGENET10, "val"], 10),
    ("imagenet-dogs", ["imagenet-dogs/train"], [*IMAGENET10, *DOGS], 15),
    ("tiny-imagenet", ["tiny-imagenet-200/train"], [f"{name}/images" for name in TINY], 200),
    ("uc-merced", ["UCMerced_LandUse/Images"], UC_MERCED, 21),
    ("uc-merced", ["."], UC_MERCED, 21),
    ("rsod", ["RSOD-Dataset"], [f"{name}/JPEGImages" for name in RSOD], 4),
    ("siri-whu", ["12class_tif"], [f"class {n}" for n in range(12)], 12),
    ("siri-whu", ["siri-whu"], [*(f"class {n}" for n in range(12)), "__MACOSX"], 12),
    ("aid", ["AID"], AID, 30),
    ("d0", ["D0"], [f"pest {n}" for n in range(40)], 40),
    ("dtd", ["dtd/images"], DTD, 47),
    ("chaoyang", ["."], ["normal", "serrated", "adenocarcinoma", "adenoma"], 4),
    ("imagenette", ["imagenette2-160/val"], IMAGENETTE, 10),
]


@pytest.mark.parametrize(("name", "splits", "names", "k"), LAYOUTS)
def test_class_folders(tmp_path, name, splits, names, k):
    for split in splits:
        folders(tmp_path / split, names, ".JPEG" if names[0].startswith("n0") else ".png")
    data = opened(name, tmp_path)
    assert data.name == name
    assert data.n_clusters == k == len(set(data.labels))
    assert len(data.images) == len(data.labels) == len(set(data.images.keys))
    # The keys are the paths of the files, so that a report can open them again.
    assert (data.images.kind, data.images.location) == ("folder", str(tmp_path))
    for row, key in enumerate(data.images.keys):
        assert (tmp_path / key).read_bytes() == data.images.read(row)
        assert data.images.stat(row)[0] == len(PNG)
        if name not in ("cifar100", "imagenet10", "imagenet-dogs", "imagenette"):
            assert data.labels[row] in key.split("/")


def test_every_set_has_a_test_and_a_line():
    assert {name for name, *_ in LAYOUTS} == set(DATASETS)
    assert DATASETS["cifar10"] == "CIFAR-10, train and test: 60,000 images, 10 classes"
    assert all("\n" not in line for line in DATASETS.values())


def test_labels_of_imagenet_are_words(tmp_path):
    folders(tmp_path, [*IMAGENET10, *DOGS])
    assert dict(zip(IMAGENET10, opened("imagenet10", tmp_path).labels))["n04285008"] == "sports_car"
    assert dict(zip(DOGS, opened("imagenet-dogs", str(tmp_path)).labels))["n02110958"] == "pug"


def test_class_folders_may_have_the_names_of_the_labels(tmp_path):
    names = ["king_penguin", "maltese_dog", *IMAGENET10[2:]]
    assert opened("imagenet10", folders(tmp_path, names)).labels[:2] == names[:2]


def test_a_whole_set_is_preferred_to_a_part_of_it(tmp_path):
    """As where another set with some of the same classes lies there too."""
    folders(tmp_path / "train", [*IMAGENET10[:3], "n01443537"])
    folders(tmp_path / "imagenet10" / "train", IMAGENET10)
    assert opened("imagenet10", tmp_path).images.keys[0] == "imagenet10/train/n02056570/00.png"


# ---- tars ----


def test_tars_are_joined(tmp_path):
    keys = [f"{name}/{i}.png" for name in CIFAR10 for i in range(2)]
    tarred(tmp_path / "cifar10-train.tar", keys)
    tarred(tmp_path / "cifar10-test.tgz", ["readme.png", *keys[::2], "../other/0.png"])
    data = opened("cifar10", tmp_path)
    expected = [f"train/{key}" for key in keys] + [f"test/{key}" for key in keys[::2]]
    assert data.images.keys == expected
    assert data.labels == [key.split("/")[1] for key in expected]
    widths = [decode(data.images.read(row)).width for row in range(30)]
    assert widths == [*range(1, 21), *range(2, 12)]
    assert data.images.stat(0)[0] == len(data.images.read(0))
    copy = pickle.loads(pickle.dumps(data.images))  # as for a worker
    assert content_hash(copy.read(29)) == content_hash(data.images.read(29))
    assert (data.images.kind, data.images.location) == ("joined", str(tmp_path))


def test_tar_that_is_the_set_is_opened_as_it_is(tmp_path):
    path = tarred(tmp_path / "cifar10-test.tar", [f"test/{name}/0.png" for name in CIFAR10])
    data = opened("cifar10-test", tmp_path)
    assert (data.images.kind, data.images.location) == ("tar", str(path))
    animals = opened("cifar10-animals", tmp_path)
    assert (animals.images.kind, animals.images.location) == ("tar", str(path))
    assert animals.images.keys == [f"test/{name}/0.png" for name in animals.labels]
    assert animals.labels == ["bird", "cat", "deer", "dog", "frog", "horse"]


def test_class_that_is_called_like_a_split(tmp_path):
    for split in ("train", "test"):
        keys = [f"{split}/{name}/0.png" for name in CIFAR100]
        tarred(tmp_path / f"cifar100-{split}.tar", keys)
    data = opened("cifar100", tmp_path)
    assert set(Counter(data.labels).values()) == {10}
    assert data.labels[CIFAR100.index("train")] == "vehicles_1"


def test_joined_images_are_embedded(tmp_path):
    for split in ("train", "test"):
        tarred(tmp_path / f"cifar10-{split}.tar", [f"{name}/{split}.png" for name in CIFAR10])
    data = opened("cifar10", tmp_path)
    encoder = load_encoder("pixels", image_size=16)
    store = embed(data.images, tmp_path / "store", encoder, n_views=2, n_workers=0, verbose=False)
    assert store.labels == data.labels  # and not the split's folder as well
    assert store.keys == data.images.keys
    assert len(store.features) == 20


# ---- torchvision's own layouts, under the checksums of made-up files ----


def checked(monkeypatch, kind, folder, **files):
    """Write the files, and let torchvision take their checksums for the right ones."""
    for name, content in files.items():
        write(folder / name.replace("_bin", ".bin").replace("_meta", ".meta"), content)
    for attribute in ("train_list", "test_list"):
        listed = getattr(kind, attribute)
        sums = [[n, hashlib.md5((folder / n).read_bytes()).hexdigest()] for n, _ in listed]
        monkeypatch.setattr(kind, attribute, sums)
    if hasattr(kind, "meta"):
        path = folder / kind.meta["filename"]
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5})


def cifar(n_classes, key, n):
    pixels = np.arange(n * 3072).astype(np.uint8).reshape(n, 3072)
    return pickle.dumps({"data": pixels, key: [i % n_classes for i in range(n)]})


def cifar10_files(monkeypatch, root):
    batches = {f"data_batch_{i}": cifar(10, "labels", 10) for i in range(1, 6)}
    meta = pickle.dumps({"label_names": CIFAR10})
    folder = root / "cifar-10-batches-py"
    kind = torchvision.datasets.CIFAR10
    test = cifar(10, "labels", 20)
    checked(monkeypatch, kind, folder, **batches, test_batch=test, batches_meta=meta)
    return folder


def test_cifar10_of_torchvision(tmp_path, monkeypatch):
    cifar10_files(monkeypatch, tmp_path)
    data = opened("cifar10", tmp_path)
    assert data.labels == CIFAR10 * 7
    assert (data.images.keys[0], data.images.keys[-1]) == ("train/00", "test/19")
    assert (data.images.kind, data.images.location) == ("array", str(tmp_path))
    assert data.images.read(0).shape == (32, 32, 3)
    assert data.images.read(0)[0, 1].tolist() == [1, 1, 1]  # 1,024 values to a channel
    assert opened("cifar10-test", tmp_path).labels == CIFAR10 * 2
    animals = opened("cifar10-animals", tmp_path)
    assert animals.labels == ["bird", "cat", "deer", "dog", "frog", "horse"] * 2
    assert animals.images.keys[:2] == ["02", "03"]


def test_cifar100_of_torchvision(tmp_path, monkeypatch):
    meta = pickle.dumps({"fine_label_names": CIFAR100})
    files = {"train": cifar(100, "fine_labels", 200), "test": cifar(100, "fine_labels", 100)}
    folder = tmp_path / "cifar100" / "cifar-100-python"
    checked(monkeypatch, torchvision.datasets.CIFAR100, folder, **files, meta=meta)
    data = opened("cifar100", tmp_path)
    assert set(Counter(data.labels).values()) == {15}
    by_number = dict(enumerate(data.labels[:100]))
    # Numbers and super-classes as published.
    assert {by_number[n] for n in (4, 30, 55, 72, 95)} == {"aquatic_mammals"}
    assert {by_number[n] for n in (8, 13, 48, 58, 90)} == {"vehicles_1"}


def test_stl10_of_torchvision(tmp_path, monkeypatch):
    pixels = np.zeros((20, 3, 96, 96), np.uint8)
    pixels[:, 1, 5, :] = 7  # stored column by column
    numbers = np.arange(20, dtype=np.uint8) % 10 + 1
    files = {f"{s}_X_bin": pixels.tobytes() for s in ("train", "test")}
    files |= {f"{s}_y_bin": numbers.tobytes() for s in ("train", "test")}
    folder = tmp_path / "stl10_binary"
    kind = torchvision.datasets.STL10
    checked(monkeypatch, kind, folder, **files, unlabeled_X_bin=b"none")
    assert opened("stl10", tmp_path).labels == STL10 * 4
    write(folder / "class_names.txt", "\n".join(STL10).encode())
    data = opened("stl10", tmp_path)
    assert data.labels == STL10 * 4
    assert data.images.read(39)[:, 5].tolist() == [[0, 7, 0]] * 96


def test_torchvision_files_that_are_damaged(tmp_path, monkeypatch):
    folder = cifar10_files(monkeypatch, tmp_path)
    write(folder / "test_batch", b"cut")
    with pytest.raises(SourceError, match=r"all files of cifar-10-batches-py.*unpack the archive"):
        open_dataset("cifar10", tmp_path)


# ---- what is not there ----


def test_unknown_name(tmp_path):
    with pytest.raises(SourceError, match=r"one of cifar10, .*imagenette; got 'mnist'"):
        open_dataset("mnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "cifar10",
            "found no images of train; put there cifar-10-batches-py as torchvision unpacks it, or "
            "cifar10-train.tar and cifar10-test.tar, or a folder train and a folder test, with the "
            "class folders in it (airplane, automobile, bird, cat, deer and 5 more)",
        ),
        ("imagenet10", "or a folder train, with the class folders in it (n02056570, "),
        ("tiny-imagenet", "tiny-imagenet-200 as its archive unpacks, or a folder train, with the"),
        ("tiny-imagenet", "(200 named by WordNet ids)"),
        ("uc-merced", "found no images; put there uc-merced.tar, or UCMerced_LandUse/Images as"),
        ("aid", "expected AID, scenes from above (Xia et al., 2017), in "),
        (
            "aid",
            "with the class folders in it (Airport, BareLand, BaseballField, Beach, Bridge and",
        ),
        ("d0", "(40 of any names); nothing is downloaded; the set's own files were never seen"),
    ],
)
def test_nothing_there_says_what_to_put_there(tmp_path, name, expected):
    write(tmp_path / "photos" / "x.png", PNG)
    with pytest.raises(SourceError) as raised:
        open_dataset(name, tmp_path)
    assert expected in str(raised.value)
    assert str(tmp_path) in str(raised.value)


def test_no_folder(tmp_path):
    for folder in (tmp_path / "nowhere", write(tmp_path / "cifar10-test.tar", b"")):
        with pytest.raises(SourceError, match="found no such folder; put there"):
            open_dataset("cifar10-test", folder)


def test_one_split_only(tmp_path):
    folders(tmp_path / "train", CIFAR10)
    with pytest.raises(SourceError, match="found no images of test"):
        open_dataset("cifar10", tmp_path)


def test_another_number_of_folders_is_another_set(tmp_path):
    folders(tmp_path / "D0", [f"pest {n}" for n in range(39)])
    with pytest.raises(SourceError, match=r"hold the 40 class folders .*; 39 were found"):
        open_dataset("d0", tmp_path)


def test_missing_classes_are_named(tmp_path):
    path = folders(tmp_path / "test", CIFAR10[:-2])
    with pytest.raises(SourceError, match=rf"{path} should hold the 10 .* missing: ship, truck;"):
        open_dataset("cifar10-test", tmp_path)
    tarred(tmp_path / "imagenette-val.tar", [f"{name}/0.png" for name in IMAGENETTE[2:]])
    with pytest.raises(SourceError, match=r"-val.tar should .* missing: n01440764, n02102040; .*a"):
        open_dataset("imagenette", tmp_path)
    folders(tmp_path / "tiny-imagenet-200" / "train", TINY[:7])
    with pytest.raises(SourceError, match=r"hold the 200 class folders .*; 7 were found; .*unpack"):
        open_dataset("tiny-imagenet", tmp_path)


def test_empty_class_folder(tmp_path):
    folders(tmp_path, UC_MERCED)
    (tmp_path / "river" / "00.png").unlink()
    with pytest.raises(SourceError, match=r"found none in .*river"):
        open_dataset("uc-merced", tmp_path)


def test_a_complete_set_does_not_warn(tmp_path):
    folders(tmp_path, UC_MERCED, n=100)
    data = complete("uc-merced", tmp_path)
    assert set(Counter(data.labels).values()) == {100}


# ---- the real images ----


@pytest.mark.skipif(
    not all((SHARED / f"cifar10-{split}.tar").exists() for split in ("train", "test")),
    reason="needs ../shared/data/cifar10-train.tar and cifar10-test.tar",
)
@pytest.mark.slow
def test_real_cifar10():
    data = complete("cifar10")
    assert Counter(data.labels) == dict.fromkeys(CIFAR10, 6000)
    assert (len(data.images), data.n_clusters, data.image_size) == (60_000, 10, 224)
    assert (data.images.keys[0], data.labels[-1]) == ("train/airplane/0000.jpg", "truck")
    for row in (0, 49_999, 50_000, 59_999):
        assert decode(data.images.read(row)).size == (32, 32)


@pytest.mark.skipif(
    not (SHARED / "cifar10-test.tar").exists(), reason="needs ../shared/data/cifar10-test.tar"
)
def test_real_cifar10_test_and_its_animals():
    whole, animals = complete("cifar10-test"), complete("cifar10-animals")
    assert Counter(whole.labels) == dict.fromkeys(CIFAR10, 1000)
    assert Counter(animals.labels) == dict.fromkeys(CIFAR10[2:8], 1000)
    assert (animals.n_clusters, animals.image_size) == (6, 96)
    for row in (0, 1234, 5999):  # the same image, by either way
        other = whole.images.keys.index(animals.images.keys[row])
        assert animals.images.read(row) == whole.images.read(other)
        assert animals.labels[row] == whole.labels[other]


@pytest.mark.skipif(
    not (SHARED / "imagenette-val.tar").exists(), reason="needs ../shared/data/imagenette-val.tar"
)
def test_real_imagenette():
    data = complete("imagenette")
    assert (len(data.images), len(set(data.labels)), data.image_size) == (3925, 10, 128)
    assert data.images.kind == "tar"
