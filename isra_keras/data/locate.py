"""Where a dataset lies on the disk."""

import os

from isra_keras.data.image_folder import class_folders, describe
from isra_keras.data.protocols import plain
from isra_keras.errors import UserError

ENVIRONMENT = ("ISRA_DATA", "ISRA_TEST_DATA")


def data_roots(protocol, data_dir=None):
    """Folders in which the dataset may lie, the likeliest first: the named ones and sub-folders with its name.

    Args:
        protocol: `Protocol`.
        data_dir: path, or None for the environment's ISRA_DATA and ISRA_TEST_DATA.

    Raises:
        UserError: if none is named, or the named one is no folder.
    """
    given = [data_dir] if data_dir else [os.environ[name] for name in ENVIRONMENT if os.environ.get(name)]
    given = [os.path.expanduser(folder) for folder in given]
    if not given:
        raise missing(protocol, [])
    for folder in given:
        if not os.path.isdir(folder):
            raise missing(protocol, [folder])
    spellings = {plain(name) for name in (protocol.name, *protocol.folders)}
    roots = []
    for folder in map(str, given):
        nested = _matching(folder, spellings)
        deeper = [path for one in nested for path in _matching(one, spellings)]
        roots += [*nested, *deeper, folder]
    return roots


def find_domain(protocol, domain, roots):
    """Folder that holds a domain's class folders.

    Raises:
        UserError: saying where to get the dataset, how it must look, and what was found instead.
    """
    classes = {plain(name) for name in protocol.classes}
    spellings = protocol.spellings(domain)
    candidates = [path for root in roots for path in _matching(root, spellings)]
    candidates += [root for root in roots if plain(os.path.basename(os.path.abspath(root))) in spellings]
    for path in candidates:
        for folder in (path, os.path.join(path, "images"), *_matching(path, spellings)):
            if os.path.isdir(folder) and any(plain(name) in classes for name in class_folders(folder)):
                return folder
    found = f"'{candidates[0]}' has none of the class folders: {describe(candidates[0])}" if candidates else None
    raise missing(protocol, roots, found or f"no folder of domain {domain}: {_all(roots)}")


def find_feature_file(protocol, roots):
    """The npz file of a feature set.

    Raises:
        UserError: as `find_domain`.
    """
    for root in roots:
        for folder in (root, os.path.join(root, "features")):
            names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
            stems = tuple(plain(name) for name in protocol.folders)
            found = [name for name in names if name.endswith(".npz") and plain(name).startswith(stems)]
            if len(found) > 1:
                raise UserError(f"Expected one file of features of {protocol.name} in '{folder}'; received {len(found)}: "
                                f"{', '.join(found)}. Keep the one that you mean there, the others in another folder.")  # fmt: skip
            if found:
                return os.path.join(folder, found[0])
    raise missing(protocol, roots, f"no such file: {_all(roots)}")


def missing(protocol, roots, found=None):
    """`UserError` of a dataset that is not there."""
    if not roots:
        found = f"neither --data-dir nor the environment variable {ENVIRONMENT[0]} names a folder"
    found = found or describe(roots[0])
    return UserError(
        f"Expected the dataset {protocol.name}; {found}. To get it: {protocol.origin}. Name its folder with "
        f"--data-dir. It must look like this: {protocol.layout}."
    )


def _matching(folder, spellings):
    """Sub-folders whose plain name is one of `spellings`."""
    if not os.path.isdir(folder):
        return []
    return [os.path.join(folder, name) for name in class_folders(folder) if plain(name) in spellings]


def _all(roots):
    return "; ".join(describe(root) for root in dict.fromkeys(roots))
