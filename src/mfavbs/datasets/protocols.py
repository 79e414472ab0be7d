"""In: nothing. Out: for each public set its splits, its class folders and their labels, n and k.

Which splits are joined and which classes count is what the clustering literature does, so that
scores can be compared.
"""

from typing import NamedTuple


class Protocol(NamedTuple):
    """What of a public set is clustered."""

    about: str
    n_images: int
    n_clusters: int
    # Class folder -> label, where folders may be called by either; empty for any WordNet ids, and
    # None where it is not known what they are called: any so many folders.
    classes: dict[str, str] | None
    splits: tuple[str, ...]
    stem: str  # its tars are called STEM-SPLIT.tar
    image_size: int = 224  # as in the code of Contrastive Clustering (AAAI 2021) and of VTCC
    is_seen: bool = True  # whether the layout was compared with the set's own files


def _named(classes: str) -> dict[str, str]:
    return {name: name for name in classes.split()}


def _by_id(classes: str) -> dict[str, str]:
    words = classes.split()
    return dict(zip(words[::2], words[1::2], strict=True))


_ANIMALS = _named("bird cat deer dog frog horse")
_CIFAR10 = _named("airplane automobile bird cat deer dog frog horse ship truck")
_STL10 = _named("airplane bird car cat deer dog horse monkey ship truck")
_UC_MERCED = _named(
    "agricultural airplane baseballdiamond beach buildings chaparral denseresidential forest "
    "freeway golfcourse harbor intersection mediumresidential mobilehomepark overpass parkinglot "
    "river runway sparseresidential storagetanks tenniscourt"
)
_AID = _named(
    "Airport BareLand BaseballField Beach Bridge Center Church Commercial DenseResidential Desert "
    "Farmland Forest Industrial Meadow MediumResidential Mountain Park Parking Playground Pond "
    "Port RailwayStation Resort River School SparseResidential Square Stadium StorageTanks Viaduct"
)
_DTD = _named(
    "banded blotchy braided bubbly bumpy chequered cobwebbed cracked crosshatched crystalline "
    "dotted fibrous flecked freckled frilly gauzy grid grooved honeycombed interlaced knitted "
    "lacelike lined marbled matted meshed paisley perforated pitted pleated polka-dotted porous "
    "potholed scaly smeared spiralled sprinkled stained stratified striped studded swirly veined "
    "waffled woven wrinkled zigzagged"
)
_RSOD = _named("aircraft oiltank overpass playground")
# Those of ImageNet's 1,000 classes that the authors of Contrastive Clustering list with their code.
_IMAGENET10 = _by_id(
    "n02056570 king_penguin n02085936 maltese_dog n02128757 snow_leopard n02690373 airliner "
    "n02692877 airship n03095699 container_ship n04254680 soccer_ball n04285008 sports_car "
    "n04467665 trailer_truck n07747607 orange"
)
_IMAGENET_DOGS = _by_id(
    "n02085936 maltese_dog n02086646 blenheim_spaniel n02088238 basset n02110958 pug "
    "n02091467 norwegian_elkhound n02097130 giant_schnauzer n02099601 golden_retriever "
    "n02101388 brittany_spaniel n02101556 clumber n02102177 welsh_springer_spaniel "
    "n02105056 groenendael n02105412 kelpie n02105855 shetland_sheepdog n02107142 doberman "
    "n02112137 chow"
)
_IMAGENETTE = _by_id(
    "n01440764 tench n02102040 english_springer n02979186 cassette_player n03000684 chain_saw "
    "n03028079 church n03394916 french_horn n03417042 garbage_truck n03425413 gas_pump "
    "n03445777 golf_ball n03888257 parachute"
)
_CIFAR100 = {
    name: label
    for label, names in {
        "aquatic_mammals": "beaver dolphin otter seal whale",
        "fish": "aquarium_fish flatfish ray shark trout",
        "flowers": "orchid poppy rose sunflower tulip",
        "food_containers": "bottle bowl can cup plate",
        "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
        "household_electrical_devices": "clock keyboard lamp telephone television",
        "household_furniture": "bed chair couch table wardrobe",
        "insects": "bee beetle butterfly caterpillar cockroach",
        "large_carnivores": "bear leopard lion tiger wolf",
        "large_man-made_outdoor_things": "bridge castle house road skyscraper",
        "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
        "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
        "medium_mammals": "fox porcupine possum raccoon skunk",
        "non-insect_invertebrates": "crab lobster snail spider worm",
        "people": "baby boy girl man woman",
        "reptiles": "crocodile dinosaur lizard snake turtle",
        "small_mammals": "hamster mouse rabbit shrew squirrel",
        "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
        "vehicles_1": "bicycle bus motorcycle pickup_truck train",
        "vehicles_2": "lawn_mower rocket streetcar tank tractor",
    }.items()
    for name in names.split()
}
_TRAIN, _TEST, _BOTH = ("train",), ("test",), ("train", "test")
SETS = {
    "cifar10": Protocol("CIFAR-10, train and test", 60_000, 10, _CIFAR10, _BOTH, "cifar10"),
    # Where the literature has no protocol: the size in pixels that this project measures with.
    "cifar10-test": Protocol("CIFAR-10, test", 10_000, 10, _CIFAR10, _TEST, "cifar10", 96),
    "cifar10-animals": Protocol(
        "six animals of CIFAR-10, test", 6_000, 6, _ANIMALS, _TEST, "cifar10", 96
    ),
    "cifar100": Protocol(
        "CIFAR-100 by super-class, train and test", 60_000, 20, _CIFAR100, _BOTH, "cifar100"
    ),
    "stl10": Protocol("labelled STL-10, train and test", 13_000, 10, _STL10, _BOTH, "stl10"),
    "imagenet10": Protocol("ImageNet-10", 13_000, 10, _IMAGENET10, _TRAIN, "imagenet10"),
    "imagenet-dogs": Protocol("ImageNet-Dogs", 19_500, 15, _IMAGENET_DOGS, _TRAIN, "imagenet-dogs"),
    "tiny-imagenet": Protocol("Tiny-ImageNet, train", 100_000, 200, {}, _TRAIN, "tiny-imagenet"),
    "uc-merced": Protocol("UC Merced land use", 2_100, 21, _UC_MERCED, ("",), "uc-merced"),
    # The others of VTCC (arXiv 2206.12925), with its numbers of images; not seen as files.
    "rsod": Protocol(
        "RSOD, objects seen from above (Long et al., 2017)",
        *(976, 4, _RSOD, ("",), "rsod"),
        is_seen=False,
    ),
    "siri-whu": Protocol(
        "SIRI-WHU, Google images of land use (Zhao et al., 2016)",
        *(2_400, 12, None, ("",), "siri-whu"),
        is_seen=False,
    ),
    "aid": Protocol(
        "AID, scenes from above (Xia et al., 2017)",
        *(10_000, 30, _AID, ("",), "aid"),
        is_seen=False,
    ),
    "d0": Protocol(
        "D0, insect pests of field crops (Xie et al., 2018)",
        *(4_508, 40, None, ("",), "d0"),
        is_seen=False,
    ),
    "dtd": Protocol(
        "DTD, textures by their describing words (Cimpoi et al., 2014)",
        *(5_640, 47, _DTD, ("",), "dtd"),
        is_seen=False,
    ),
    "chaoyang": Protocol(
        "Chaoyang, tissue of the colon (Zhu et al., 2021), train and test",
        *(6_160, 4, None, ("",), "chaoyang"),
        is_seen=False,
    ),
    "imagenette": Protocol(
        "Imagenette, validation", 3_925, 10, _IMAGENETTE, ("val",), "imagenette", 128
    ),
}
