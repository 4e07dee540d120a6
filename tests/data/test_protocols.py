"""protocols: the published counts, spellings, and the messages of unknown names."""

import pytest

from isra_keras.data.protocols import choose, facts, plain, protocols
from isra_keras.errors import UserError

# images of each domain: all classes, and the target's classes of the partial protocol
PUBLISHED = {
    "office_home": (65, 25, {"Art": (2427, 1089), "Clipart": (4365, 1675), "Product": (4439, 1785), "RealWorld": (4357, 1811)}),
    "office31": (31, 10, {"amazon": (2817, 958), "dslr": (498, 157), "webcam": (795, 295)}),
    "office_caltech10": (10, 5, {"amazon": (958, 467), "caltech10": (1123, 584), "dslr": (157, 68), "webcam": (295, 135)}),
    "pacs_features": (7, 4, {"art_painting": (2048, 1103), "cartoon": (2344, None), "photo": (1670, None), "sketch": (3929, None)}),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts(name):
    classes, shared, domains = PUBLISHED[name]
    protocol = protocols()[name]
    assert len(protocol.classes) == len(set(protocol.classes)) == classes and len(protocol.shared) == shared
    assert set(protocol.shared) <= set(protocol.classes) and list(protocol.domains) == list(domains)
    for domain, (total, partial) in domains.items():
        counts = dict(zip(protocol.classes, protocol.counts[domain], strict=True))
        assert sum(counts.values()) == total and min(counts.values()) > 0
        assert partial is None or sum(counts[name] for name in protocol.shared) == partial


def test_office_home_and_office31_take_the_first_or_the_shared_classes():
    office_home, office31 = protocols()["office_home"], protocols()["office31"]
    assert office_home.shared == office_home.classes[:25]
    assert list(office_home.classes) == sorted(office_home.classes, key=str.lower)
    assert len({plain(name) for name in office31.classes}) == 31
    office_caltech = protocols()["office_caltech10"]
    assert office_caltech.shared == office_caltech.classes[:5] == tuple(sorted(office_caltech.classes)[:5])
    assert set(office31.shared) > {"back_pack", "bike", "mug", "projector"}


def test_caltech_and_imagenet():
    protocol = protocols()["imagenet_caltech"]
    assert len(protocol.classes) == 256 and sum(protocol.counts["caltech256"]) == 29780
    pairs = facts()["imagenet_caltech"]["pairs"]
    assert len(pairs) == len({i for i, _ in pairs}) == len({c for _, c in pairs}) == 84
    assert all(0 <= i < 1000 and 0 <= c < 256 for i, c in pairs)
    named = {i: protocol.classes[c] for i, c in pairs}
    assert named[1] == "087.goldfish" and named[9] == "151.ostrich"


@pytest.mark.parametrize("given", ["RealWorld", "real_world", "Rw", "REAL WORLD", "rw"])
def test_any_spelling(given):
    assert choose(given, {"Art": "Ar", "RealWorld": "Rw"}, "domain") == "RealWorld"


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(
        UserError, match=r"Expected a domain of Art \(Ar\), Clipart \(Cl\); received 'Clipat'; did you mean 'Clipart'"
    ):
        choose("Clipat", {"Art": "Ar", "Clipart": "Cl"}, "domain")
    for given in ("", "--", "xyz"):
        with pytest.raises(UserError, match="of a, b; received"):
            choose(given, ["a", "b"], "dataset")
