"""ImageNet-1K and Caltech-256, 84 classes in common: I->C from 1000 classes, C->I from 256.

Source ImageNet is the training set, target ImageNet the validation set (50 images of each of the 84 classes).
"""

import os
import re

import numpy as np

from isra_keras.data import image_folder
from isra_keras.data.domain import Task
from isra_keras.data.image_list import NUMBER, read_list
from isra_keras.data.locate import find_domain, missing
from isra_keras.data.protocols import facts, plain
from isra_keras.data.tasks import PHOTO_SIZE, make_domain, read_classes, report_problems
from isra_keras.errors import UserError

TRAIN_IMAGES, VALIDATION_IMAGES, CLASSES = 1_281_167, 50, 1000


def imagenet_caltech_task(protocol, source, target, roots, allow_incomplete, on_bad_image):
    """`Task` of the two directions; see `isra_keras.data.tasks.load_task`."""
    options = (allow_incomplete, on_bad_image)
    pairs = facts()["imagenet_caltech"]["pairs"]
    if source == "caltech256":
        caltech = read_classes(protocol, source, find_domain(protocol, source, roots), range(256), *options)
        classes = protocol.classes
        images = _validation(protocol, roots, {imagenet: own for imagenet, own in pairs}, classes, *options)
        shared = tuple(classes[own] for _, own in pairs)
        return Task("C-I", caltech, images, classes, shared, "images", PHOTO_SIZE, protocol.name)
    images = _training(protocol, roots, *options)
    folder = find_domain(protocol, target, roots)
    caltech = read_classes(protocol, target, folder, sorted(own for _, own in pairs), *options)
    numbers = {own: imagenet for imagenet, own in pairs}
    labels = [numbers[int(label)] for label in caltech.labels]
    classes = images.class_names
    caltech = type(caltech)(target, classes, labels, caltech.paths, None, caltech.bad_images)
    shared = tuple(classes[imagenet] for imagenet, _ in pairs)
    return Task("I-C", images, caltech, classes, shared, "images", PHOTO_SIZE, protocol.name)


def _training(protocol, roots, allow_incomplete, on_bad_image):
    """`Domain` of the training set, labels in the order of the WordNet ids."""
    folder = _part(protocol, roots, "train")
    classes = _synsets(folder)
    if len(classes) != CLASSES:
        raise missing(protocol, roots, f"expected {CLASSES} class folders in '{folder}', found {len(classes)}")
    folders = {index: os.path.join(folder, name) for index, name in enumerate(classes)}
    files, labels = image_folder.labelled_files(folders, recursive=False)
    problems = []
    if len(files) != TRAIN_IMAGES:
        problems = [f"expected {TRAIN_IMAGES:,} images in all, found {len(files):,}"]
        if len(files) < TRAIN_IMAGES // 100:
            problems.append(f"fewest in {classes[np.argmin(np.bincount(labels, minlength=CLASSES))]}")
    report_problems(protocol, "imagenet", folder, problems, allow_incomplete)
    return make_domain("imagenet", classes, files, labels, folder, on_bad_image)


def _validation(protocol, roots, numbers, classes, allow_incomplete, on_bad_image):
    """`Domain` of the validation images of the classes `numbers`: {ImageNet index: label}."""
    folder = _part(protocol, roots, "val")
    found = {index: [] for index in numbers}
    names = _synsets(folder)
    if len(names) == CLASSES:
        for index in found:
            found[index] = image_folder.image_files(os.path.join(folder, names[index]), recursive=False)
    else:
        for name, index in _listed(protocol, roots, folder):
            if index in found and os.path.isfile(os.path.join(folder, name)):
                found[index].append(os.path.join(folder, name))
    problems = [
        f"{classes[numbers[index]]} (ImageNet index {index}): expected {VALIDATION_IMAGES} images, found {len(images)}"
        for index, images in found.items()
        if len(images) != VALIDATION_IMAGES
    ]
    report_problems(protocol, "imagenet", folder, problems, allow_incomplete)
    ordered = sorted((numbers[index], path) for index, images in found.items() for path in images)
    labels = [label for label, _ in ordered]
    return make_domain("imagenet", classes, [path for _, path in ordered], labels, folder, on_bad_image)


def _part(protocol, roots, part):
    """Folder of the training or validation set: ROOT/train, ROOT/imagenet/train, ..."""
    spellings = protocol.spellings("imagenet")
    for root in roots:
        homes = [name for name in image_folder.class_folders(root) if plain(name) in spellings]
        for home in (*(os.path.join(root, name) for name in homes), root):
            for name in (part, "validation") if part == "val" else (part,):
                if os.path.isdir(os.path.join(home, name)):
                    return os.path.join(home, name)
    raise missing(protocol, roots, f"no folder imagenet/{part}: {image_folder.describe(roots[-1])}")


def _synsets(folder):
    """WordNet ids of the class folders, sorted: the standard index order of ImageNet-1K."""
    return tuple(name for name in image_folder.class_folders(folder) if re.fullmatch(r"n\d{8}", name))


def _listed(protocol, roots, folder):
    """(file, index) of val.txt, beside the flat validation images or in the folder above."""
    for place in (folder, os.path.dirname(folder)):
        path = os.path.join(place, "val.txt")
        if os.path.isfile(path):
            return _validation_rows(path)
    raise missing(protocol, roots, f"'{folder}' has neither 1000 class folders nor a val.txt beside it")


def _validation_rows(path):
    """[(file, index)] of a val.txt.

    Raises:
        UserError: names a line that holds something else, or a file that can't be read.
    """
    files, names = read_list(path)
    for file, name in zip(files, names or [""] * len(files)):
        if not NUMBER.fullmatch(name) or int(name) >= CLASSES:
            raise UserError(
                f"Expected in '{path}' lines FILE INDEX with indices 0 to {CLASSES - 1}; received {name!r} for "
                f"'{os.path.basename(file)}'."
            )
    return [(os.path.basename(file), int(name)) for file, name in zip(files, names)]
