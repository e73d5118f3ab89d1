"""The sets of pictures that are known by name: what is told of them, without opening a picture.

`CATALOG` are the field's eleven; `images/catalog.py` reads them, and `images/emoji.py` the emoji task.

Sources: Zhou et al., Learning to Prompt for Vision-Language Models, 2022 (splits, templates, class names); each data set's own page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

COOP = "github.com/KaiyangZhou/CoOp, DATASETS.md"
EMOJI = "emoji"
EMOJI_TRAIN, EMOJI_SELECT, EMOJI_TEST = 8, 4, 12  # groups a class

CALTECH = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}
EUROSAT = {
    "AnnualCrop": "Annual Crop Land",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "SeaLake": "Sea or Lake",
}


@dataclass(frozen=True)
class Published:
    """A data set: its folder, where in it pictures lie, the file of its splits, its template, and class names to put right.

    `num_classes` is how many classes it was published with, `home` where its pictures come from.
    """

    folder: str
    images: str
    split: str
    template: str
    num_classes: int
    home: str
    names: Mapping[str, str] | None = None


CATALOG: Mapping[str, Published] = {
    "imagenet": Published("imagenet", "images", "classnames.txt", "a photo of a {class}.", 1000, "image-net.org"),
    "caltech101": Published(
        "caltech-101",
        "101_ObjectCategories",
        "split_zhou_Caltech101.json",
        "a photo of a {class}.",
        100,
        "data.caltech.edu/records/mzrjq-6wc02",
        CALTECH,
    ),
    "oxford_pets": Published(
        "oxford_pets",
        "images",
        "split_zhou_OxfordPets.json",
        "a photo of a {class}, a type of pet.",
        37,
        "www.robots.ox.ac.uk/~vgg/data/pets",
    ),
    "stanford_cars": Published(
        "stanford_cars", "", "split_zhou_StanfordCars.json", "a photo of a {class}.", 196, "ai.stanford.edu/~jkrause/cars/car_dataset.html"
    ),
    "oxford_flowers": Published(
        "oxford_flowers",
        "jpg",
        "split_zhou_OxfordFlowers.json",
        "a photo of a {class}, a type of flower.",
        102,
        "www.robots.ox.ac.uk/~vgg/data/flowers/102",
    ),
    "food101": Published(
        "food-101",
        "images",
        "split_zhou_Food101.json",
        "a photo of {class}, a type of food.",
        101,
        "data.vision.ee.ethz.ch/cvl/datasets_extra/food-101",
    ),
    "fgvc_aircraft": Published(
        "fgvc_aircraft",
        "images",
        "images_variant_train.txt",
        "a photo of a {class}, a type of aircraft.",
        100,
        "www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft",
    ),
    "sun397": Published(
        "sun397", "SUN397", "split_zhou_SUN397.json", "a photo of a {class}.", 397, "vision.princeton.edu/projects/2010/SUN"
    ),
    "dtd": Published("dtd", "images", "split_zhou_DescribableTextures.json", "{class} texture.", 47, "www.robots.ox.ac.uk/~vgg/data/dtd"),
    "eurosat": Published(
        "eurosat",
        "2750",
        "split_zhou_EuroSAT.json",
        "a centered satellite photo of {class}.",
        10,
        "github.com/phelber/EuroSAT",
        EUROSAT,
    ),
    "ucf101": Published(
        "ucf101",
        "UCF-101-midframes",
        "split_zhou_UCF101.json",
        "a photo of a person doing {class}.",
        101,
        f"{COOP} (the middle frames of www.crcv.ucf.edu/data/UCF101.php)",
    ),
}
