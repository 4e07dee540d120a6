"""Anybody's own two folders of images, or lists of them, as a `Task`."""

import os
import unicodedata
import warnings
from collections import Counter

import numpy as np

from isra_keras.data import image_folder
from isra_keras.data.domain import Task
from isra_keras.data.image_folder import make_domain
from isra_keras.data.image_list import in_label_order, is_list, list_name, read_list
from isra_keras.errors import UserError, did_you_mean

PHOTO_SIZE = 256


def folder_task(source_dir, target_dir, on_bad_image="skip"):
    """A task of anybody's own two folders, or lists of images (`isra_keras.data.image_list`).

    Names of classes are equal if their characters are, in whichever Unicode form a file system keeps them.

    Args:
        source_dir: a folder of class folders of images; each class folder may be nested further. Or a list.
        target_dir: class folders with names of the source's classes (the labels serve evaluation only), or images
            without labels, directly or nested. Or a list, with or without classes.
        on_bad_image: as in `load_task`.

    Returns:
        `Task` with `shared_classes` None if the target has no labels.

    Raises:
        UserError: if a folder is missing or empty, one lies in the other, or a target class is unknown in the source.
    """
    for role, folder in (("source", source_dir), ("target", target_dir)):
        if not os.path.isdir(folder) and not is_list(folder):
            raise UserError(
                f"Expected a folder of images as {role}, or a list of them (.txt, a line FILE CLASS for each); "
                f"{image_folder.describe(folder)}."
            )
    if not is_list(source_dir) and not is_list(target_dir):
        _check_places(source_dir, target_dir)
    source = _listed_source(source_dir, on_bad_image) if is_list(source_dir) else _source(source_dir, on_bad_image)
    classes = source.class_names
    if is_list(target_dir):
        target = _listed_target(target_dir, classes, on_bad_image)
    else:
        target = _target(target_dir, classes, on_bad_image)
    shared = tuple(name for name, count in zip(classes, target.class_counts) if count) or None
    return Task(f"{source.name}-{target.name}", source, target, classes, shared, "images", PHOTO_SIZE)


def _check_places(source_dir, target_dir):
    """Two folders of which none holds the other's images."""
    source, target = (os.path.realpath(folder) for folder in (source_dir, target_dir))
    if source == target:
        warnings.warn(
            f"Source and target are the same folder '{source_dir}': accuracy is then that on images trained on.",
            stacklevel=4,
        )
    elif os.path.commonpath([source, target]) == source:
        name = os.path.relpath(target, source).split(os.sep)[0]
        raise UserError(
            f"Expected the target outside of the source; received '{target_dir}', which lies in '{source_dir}', so that "
            f"'{name}' would be a class. Move it, or name the folder that holds the source's classes alone."
        )
    elif os.path.commonpath([source, target]) == target:
        raise UserError(
            f"Expected the source outside of the target; received '{source_dir}', which lies in '{target_dir}', so that "
            "its images would be the target's too. Move it, or name the folder that holds the target's images alone."
        )


def _source(source_dir, on_bad_image):
    """`Domain` of a folder of class folders."""
    classes = tuple(image_folder.class_folders(source_dir))
    if len(classes) < 2:
        raise UserError(
            f"Expected at least two class folders in the source; {image_folder.describe(source_dir)}. "
            "Put the images of each class in a folder of its own."
        )
    _check_names(classes, source_dir)
    _warn_of_twins(classes, source_dir)
    loose = image_folder.image_files(source_dir, recursive=False)
    if loose:
        images = "1 image" if len(loose) == 1 else f"{len(loose):,} images"
        warnings.warn(
            f"{_base(source_dir)}: {images} beside the class folders, such as '{os.path.basename(loose[0])}', left out: "
            "a source's image needs a class.", stacklevel=4,
        )  # fmt: skip
    return _labelled_folder(source_dir, {name: name for name in classes}, classes, on_bad_image)


def _target(target_dir, classes, on_bad_image):
    """`Domain` of a folder of class folders, or of images without labels."""
    folders = image_folder.class_folders(target_dir)
    if any(known(folders, classes).values()):
        return _labelled_target(target_dir, folders, classes, on_bad_image)
    return _unlabelled_folder(target_dir, classes, folders, on_bad_image)


def _listed_source(path, on_bad_image):
    """`Domain` of a list with a class in every line."""
    files, names = read_list(path)
    if names is None:
        raise UserError(f"Expected a class in every line of the source's list '{path}', FILE CLASS; there is none.")
    classes = in_label_order(names)
    if len(classes) < 2:
        raise UserError(f"Expected at least two classes in the source's list '{path}'; received only '{classes[0]}'.")
    _check_names(classes, path)
    _warn_of_twins(classes, path)
    domain = _listed(path, classes, files, names, on_bad_image)
    for name, count in zip(classes, domain.class_counts):
        if not count:
            raise UserError(f"Expected readable images of class '{name}'; {image_folder.summary(domain.bad_images)}.")
    return domain


def _listed_target(path, classes, on_bad_image):
    """`Domain` of a list with classes that the source has, or with none."""
    files, names = read_list(path)
    found = known(sorted(set(names or ())), classes)
    unknown = [name for name, match in found.items() if match is None]
    if unknown:
        raise UserError(f"{_unknown_class(unknown[0], classes, path)} Leave the classes out if the target has no labels.")
    return _listed(path, classes, files, names and [found[name] for name in names], on_bad_image)


def _listed(path, classes, files, names, on_bad_image):
    _check_there(path, files)
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [-1] * len(files) if names is None else [numbers[name] for name in names]
    return make_domain(list_name(path), classes, files, labels, path, on_bad_image)


def _check_there(path, files, looked_at=100):
    """Refuses a list of which no file is there: of another machine, or written for another folder than it lies in.

    Of a long list files are looked at here and there, and read as they are needed (`image_folder.MOST_CHECKED`).
    """
    some = files[:: max(1, len(files) // looked_at)]
    if any(os.path.lexists(file) for file in some):
        return
    folder, windows = os.path.dirname(os.path.abspath(path)), "\\" in os.path.basename(some[0])
    advice = " Write / between folders, not \\." if windows else ""
    raise UserError(
        f"Expected in the list '{path}' files from its own folder on, '{folder}', or from /; of {len(some):,} that were looked "
        f"for none is there, such as '{some[0]}'. Move the list into the folder that its files are named from, or write where "
        f"they are now.{advice}"
    )


def known(names, classes):
    """{name: the class of that name, or None}; an equal one before one that is equal in another Unicode form."""
    composed = {unicodedata.normalize("NFC", name): name for name in reversed(classes)} | {name: name for name in classes}
    return {name: composed.get(name, composed.get(unicodedata.normalize("NFC", name))) for name in names}


def _folded(name):
    """The name without case and Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _near(name, classes):
    """ " Did you mean 'Mug'?" for "mug"; else as `did_you_mean`."""
    twin = {_folded(one): one for one in classes}.get(_folded(name))
    return f" Did you mean '{twin}'?" if twin else did_you_mean(name, classes)


def _unknown_class(name, classes, place):
    return (
        f"Expected target classes that the source has ({', '.join(classes[:20])}{', ...' * (len(classes) > 20)}); "
        f"received '{name}' in '{place}'.{_near(name, classes)}"
    )


def _check_names(classes, place):
    """Refuses names of classes that no figure, table or file of a run could hold."""
    for name in classes:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            shown = name.encode("utf-8", "backslashreplace").decode()
            raise UserError(
                f"Expected names of classes in UTF-8; received '{shown}' in '{place}', as old archives have them. "
                f"{'Write those of the list so' if is_list(place) else 'Rename the folder'}."
            ) from None


def _warn_of_twins(classes, place):
    """Says which classes of the source are probably one."""
    seen = {}
    for name in classes:
        twin = seen.setdefault(_folded(name), name)
        if twin != name:
            warnings.warn(
                f"The classes '{twin}' and '{name}' in '{place}' differ in case or Unicode form alone; they are taken "
                "as two. Merge them if they are one.",
                stacklevel=5,
            )


def _labelled_folder(folder, names, classes, on_bad_image):
    """`Domain` of the class folders `names`, {folder: class}; every one must hold a readable image."""
    passed = Counter()
    folders = {classes.index(name): os.path.join(folder, inside) for inside, name in names.items()}
    files, labels = image_folder.labelled_files(folders, passed=passed)
    counts = np.bincount(labels, minlength=len(classes))
    for label, place in folders.items():
        if not counts[label]:
            others = Counter()
            image_folder.image_files(place, passed=others)
            advice = f", but {_list_of_endings(others)}. Convert them" if others else ". Add images"
            raise UserError(f"Expected images in every class folder; '{place}' holds none{advice} or remove the folder.")
    _warn_of_others(folder, passed)
    domain = make_domain(_base(folder), classes, files, labels, folder, on_bad_image)
    counts = domain.class_counts
    for label, place in folders.items():
        if not counts[label]:
            bad = [item for item in domain.bad_images if item.path.startswith(place + os.sep)]
            raise UserError(f"Expected readable images of class '{classes[label]}'; {image_folder.summary(bad)}.")
    return domain


def _labelled_target(folder, names, classes, on_bad_image):
    found = known(names, classes)
    unknown = [name for name, match in found.items() if match is None]
    if unknown:
        raise UserError(f"{_unknown_class(unknown[0], classes, folder)} Rename or remove the folder, or give the images "
                        "without class folders.")  # fmt: skip
    twice = [name for name, count in Counter(found.values()).items() if count > 1]
    if twice:
        raise UserError(f"Expected one folder of class '{twice[0]}' in '{folder}'; received two whose names differ in "
                        "Unicode form alone. Merge them.")  # fmt: skip
    loose = image_folder.image_files(folder, recursive=False)
    if loose:
        raise UserError(
            f"Expected the target's images either all in class folders or all without; '{folder}' holds "
            f"{len(names)} class folders and {len(loose)} images beside them, such as '{loose[0]}'."
        )
    return _labelled_folder(folder, found, classes, on_bad_image)


def _unlabelled_folder(folder, classes, sub_folders, on_bad_image):
    passed = Counter()
    files = image_folder.image_files(folder, passed=passed)
    if not files:
        others = f", {_list_of_endings(passed)}: convert them" if passed else ""
        raise UserError(f"Expected images in the target; {image_folder.describe(folder)}{others}.")
    if sub_folders:
        nearly = [near for name in sub_folders if (near := _near(name, classes))]
        warnings.warn(
            f"No folder in '{folder}' ({', '.join(sub_folders[:5])}) has the name of a source class "
            f"({', '.join(classes[:5])}): its images are taken as unlabelled.{nearly[0] if nearly else ''}",
            stacklevel=5,
        )
    _warn_of_others(folder, passed)
    return make_domain(_base(folder), classes, files, [-1] * len(files), folder, on_bad_image)


def other_files(others):
    """ "3 files with other endings (...); readable are JPEG, .... Convert photos ...", of a Counter of endings."""
    phone = " Convert photos of a phone (.heic) to JPEG first." if {".heic", ".heif"} & set(others) else ""
    return f"{_list_of_endings(others)}.{phone}"


def _list_of_endings(others):
    """ "3 files with other endings (2 .heic, 1 .txt); readable are JPEG, ..."."""
    kinds = ", ".join(f"{count} {ending or 'without one'}" for ending, count in others.most_common(4))
    files = "1 file with another ending" if sum(others.values()) == 1 else f"{sum(others.values())} files with other endings"
    return f"{files} ({kinds}{', …' * (len(others) > 4)}); readable are {image_folder.READABLE}"


def _warn_of_others(folder, others):
    if others:
        warnings.warn(f"{_base(folder)}: passed over {other_files(others)}", stacklevel=6)


def _base(folder):
    """Its name, for titles of figures: bytes that are no UTF-8 as question marks."""
    return (os.path.basename(os.path.abspath(folder)) or str(folder)).encode("utf-8", "replace").decode()
