"""The benchmark protocols: domains, class names in label order, the target's classes, expected counts.

The numbers are in `protocols.json`. Partial protocols of Office-Home, Office-31 and ImageNet-Caltech as in Cao et al.,
"Partial Adversarial Domain Adaptation" (ECCV 2018); "first k in alphabetical order" for the others.
"""

import difflib
import functools
import json
import re
from dataclasses import dataclass, field
from importlib import resources

from isra_keras.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """One dataset.

    Attributes:
        name: as on the command line.
        domains: {full name: short form}.
        default: (source, target) when none is named.
        kind: "images" or "features".
        classes: names in label order; of the largest domain where domains differ.
        shared: the target's class names.
        counts: {domain: samples of each class}; empty where the data is made at run time.
        aliases: {domain: other folder names}, compared without case and punctuation.
        folders: names that the dataset's own folder may have; of the file, for features.
        origin: how to get it, as a clause.
        layout: what the folder must look like.
    """

    name: str
    domains: dict
    default: tuple
    kind: str = "images"
    classes: tuple = ()
    shared: tuple = ()
    counts: dict = field(default_factory=dict)
    aliases: dict = field(default_factory=dict)
    folders: tuple = ()
    origin: str = ""
    layout: str = ""

    def spellings(self, domain):
        """All plain spellings of a domain's name that a folder may have."""
        return {plain(name) for name in (domain, *self.aliases.get(domain, ()))}


@functools.cache
def facts():
    """Content of `protocols.json`."""
    return json.loads(resources.files(__package__).joinpath("protocols.json").read_text())


def plain(name):
    """A name without case, blanks and punctuation: "Real World", "real_world" -> "realworld"."""
    return re.sub(r"[^0-9a-z]", "", str(name).lower())


def choose(given, valid, what):
    """The entry of `valid` that `given` names, by any spelling.

    Args:
        given: str.
        valid: {name: short form} or list of names.
        what: "dataset", "domain of glyphs", ... for the message.

    Raises:
        UserError: listing the valid names, with the nearest one.
    """
    shorts = valid if isinstance(valid, dict) else {}
    for name in valid:
        if plain(given) and plain(given) in (plain(name), plain(shorts.get(name, name))):
            return name
    listed = ", ".join(f"{name} ({shorts[name]})" if name in shorts else name for name in valid)
    near = difflib.get_close_matches(str(given).lower(), [name.lower() for name in valid], 1, 0.6)
    hint = f"; did you mean '{next(n for n in valid if n.lower() == near[0])}'?" if near else "."
    raise UserError(f"Expected a {what} of {listed}; received '{given}'{hint}")


@functools.cache
def protocols():
    """{name: `Protocol`} of every dataset."""
    made = [_glyphs(), _office_home(), _office31(), _imagenet_caltech(), _office_caltech10(), *_feature_sets()]
    return {protocol.name: protocol for protocol in made}


def _glyphs():
    letters = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return Protocol(
        name="glyphs",
        domains={"printed": "Pr", "handwritten": "Ha", "photo": "Ph"},
        default=("printed", "handwritten"),
        classes=letters,
        shared=letters[:10],
        origin="it is made at run time from fonts and images that matplotlib and scikit-learn bring",
    )


def _listed(name):
    entry = facts()[name]
    counts = {domain: tuple(values) for domain, values in entry["counts"].items()}
    return {"name": name, "classes": tuple(entry["classes"]), "shared": tuple(entry["shared"]), "counts": counts}


def _office_home():
    return Protocol(
        **_listed("office_home"),
        domains={"Art": "Ar", "Clipart": "Cl", "Product": "Pr", "RealWorld": "Rw"},
        default=("Art", "Clipart"),
        aliases={"RealWorld": ("Real World", "Real"), "Product": ("Products",), "Clipart": ("Clip Art",)},
        folders=("office_home", "OfficeHomeDataset_10072016", "OfficeHomeDataset"),
        origin="download and extract https://www.hemanthdv.org/officeHomeDataset.html",
        layout="Art/Alarm_Clock/*.jpg, Clipart/..., Product/..., Real World/... (65 class folders in each)",
    )


def _office31():
    return Protocol(
        **_listed("office31"),
        domains={"amazon": "A", "dslr": "D", "webcam": "W"},
        default=("amazon", "webcam"),
        folders=("office31", "office", "domain_adaptation_images"),
        origin="download and extract https://faculty.cc.gatech.edu/~judy/domainadapt/ (the raw images)",
        layout="amazon/images/back_pack/*.jpg, dslr/images/..., webcam/images/... (31 class folders in each; "
        "'images' may be left out)",
    )


def _imagenet_caltech():
    caltech = facts()["caltech256"]
    return Protocol(
        name="imagenet_caltech",
        domains={"imagenet": "I", "caltech256": "C"},
        default=("imagenet", "caltech256"),
        classes=tuple(caltech["classes"]),
        counts={"caltech256": tuple(caltech["counts"])},
        aliases={
            "caltech256": ("256_ObjectCategories", "caltech", "caltech-256"),
            "imagenet": ("imagenet2012", "ILSVRC2012", "imagenet1k", "ilsvrc", "CLS-LOC"),
        },
        folders=("imagenet_caltech",),
        origin="download and extract https://www.image-net.org (ILSVRC 2012) and "
        "https://data.caltech.edu/records/nyy15-4j048 (Caltech-256)",
        layout="imagenet/train/n01440764/*.JPEG (1000 folders), imagenet/val/n01440764/*.JPEG (or all of val/ flat with "
        "a val.txt of 'file index' lines), 256_ObjectCategories/001.ak47/*.jpg (256 folders; clutter is ignored)",
    )


def _office_caltech10():
    return Protocol(
        **_listed("office_caltech10"),
        domains={"amazon": "A", "caltech10": "C", "dslr": "D", "webcam": "W"},
        default=("amazon", "webcam"),
        aliases={"caltech10": ("caltech",)},
        folders=("office_caltech10", "OfficeCaltechDomainAdaptation", "office_caltech"),
        origin="download and extract https://github.com/redhat12345/OfficeCaltechDomainAdaptation",
        layout="amazon/backpack/*.jpg, caltech10/..., dslr/..., webcam/... (10 class folders in each)",
    )


def _feature_sets():
    layout = "{}.npz with arrays features (n, p) float, domain (n,), cls (n,), path (n,), there or in features/"
    office = _listed("office_caltech10") | {"name": "office_caltech10_features"}
    return (
        Protocol(
            **office,
            domains={"amazon": "A", "caltech10": "C", "dslr": "D", "webcam": "W"},
            default=("amazon", "webcam"),
            kind="features",
            folders=("office_caltech10",),
            origin="it is computed from office_caltech10 by any backbone",
            layout=layout.format("office_caltech10_<backbone>"),
        ),
        Protocol(
            **_listed("pacs_features"),
            domains={"art_painting": "A", "cartoon": "C", "photo": "P", "sketch": "S"},
            default=("photo", "art_painting"),
            kind="features",
            folders=("pacs",),
            origin="it is computed from PACS by any backbone",
            layout=layout.format("pacs_<backbone>"),
        ),
    )
