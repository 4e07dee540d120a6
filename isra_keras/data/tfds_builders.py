"""TFDS builders of the photo datasets that must be downloaded by hand: `office_home`, `office31`, `caltech256`.

Importing this module registers them with TensorFlow Datasets; nothing else in the package imports it, and training reads
the plain extracted folder without it. Class names, their order and the expected counts are those of `protocols.json`.
ImageNet is TFDS's own `imagenet2012`.

Every domain is a config with one split, "train", of {"image": uint8 (height, width, 3), "label": int64, "filename":
"class folder/file"}. Extract the archive into `manual_dir` (where exactly: `OfficeHome.MANUAL_DOWNLOAD_INSTRUCTIONS`).

Example:
    >>> import tensorflow_datasets as tfds
    >>> import isra_keras.data.tfds_builders
    >>> folder = tfds.download.DownloadConfig(manual_dir="/data/extracted")
    >>> art = tfds.load("office_home/Art", split="train", data_dir="/data/tfds", as_supervised=True,
    ...                 download_and_prepare_kwargs={"download_config": folder})
    >>> webcam = tfds.load("office31/webcam", split="train", data_dir="/data/tfds")  # made before, or DATA_DIR/downloads/manual
    >>> half = tfds.load("caltech256", data_dir="/data/tfds", builder_kwargs={"allow_incomplete": True})
"""

import dataclasses
from pathlib import Path

import tensorflow_datasets as tfds

from isra_keras.data.decode import decode_image, is_plain_jpeg
from isra_keras.data.locate import data_roots, find_domain
from isra_keras.data.protocols import protocols
from isra_keras.data.tasks import read_classes
from isra_keras.errors import UserError

_VERSION = "1.0.0"


def _configs(protocol):
    """A config for each domain."""
    return [
        tfds.core.BuilderConfig(name=name, version=_VERSION, description=f"Domain {name}: {sum(counts):,} images.")
        for name, counts in protocol.counts.items()
    ]


def _instructions(protocol):
    return f"To get {protocol.name}: {protocol.origin} into manual_dir. It must look like this: {protocol.layout}."


class PhotoBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What the three builders share.

    Args:
        allow_incomplete: go on where counts differ from the protocol's, and without unreadable files; a warning names
            the classes and the files. None takes the class's `ALLOW_INCOMPLETE`.
        **kwargs: of `tfds.core.DatasetBuilder`: data_dir, config, version.

    Raises:
        UserError: when prepared, if a class or a file is missing, surplus or unreadable.
    """

    VERSION = tfds.core.Version(_VERSION)
    RELEASE_NOTES = {_VERSION: "First version."}
    ALLOW_INCOMPLETE = False
    protocol = None
    citation = ""
    homepage = ""

    def __init__(self, *, allow_incomplete=None, **kwargs):
        self.allow_incomplete = self.ALLOW_INCOMPLETE if allow_incomplete is None else bool(allow_incomplete)
        super().__init__(**kwargs)

    @property
    def domain(self):
        """Name of the domain, as in the protocol."""
        return self.builder_config.name if self.builder_config else self.name

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=self.protocol.classes),
            "filename": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage=self.homepage,
            citation=self.citation,
        )

    def as_dataset(self, *args, **kwargs):
        """As `tfds.core.DatasetBuilder.as_dataset`.

        Raises:
            UserError: if what was prepared with `allow_incomplete` is incomplete, and this builder does not allow it.
        """
        expected, found = sum(self.protocol.counts[self.domain]), self.info.splits["train"].num_examples
        if found != expected and not self.allow_incomplete:
            raise UserError(
                f"Expected the {expected:,} images of {self.info.full_name}; '{self.data_dir}' was prepared from {found:,}. "
                "Remove it to prepare it anew, or go on with allow_incomplete=True."
            )
        return super().as_dataset(*args, **kwargs)

    def _split_generators(self, dl_manager):
        roots = data_roots(self.protocol, str(dl_manager.manual_dir))
        folder = find_domain(self.protocol, self.domain, roots)
        every = range(len(self.protocol.classes))
        bad = "skip" if self.allow_incomplete else "error"
        samples = read_classes(self.protocol, self.domain, folder, every, self.allow_incomplete, bad)
        return {"train": self._generate_examples(folder, samples)}

    def _generate_examples(self, folder, samples):
        """(key, example) of every file; what TensorFlow would read otherwise than training does is stored as PNG."""
        for path, label in zip(samples.paths, samples.labels.tolist()):
            name = Path(path).relative_to(folder).as_posix()
            image = path if is_plain_jpeg(path) else decode_image(path)
            yield name, {"image": image, "label": label, "filename": name}


class OfficeHome(PhotoBuilder):
    """Office-Home: 15,588 everyday objects in 65 classes, as art, clip art, product pictures and photographs."""

    protocol = protocols()["office_home"]
    BUILDER_CONFIGS = _configs(protocol)
    MANUAL_DOWNLOAD_INSTRUCTIONS = _instructions(protocol)
    homepage = "https://www.hemanthdv.org/officeHomeDataset.html"
    citation = """@inproceedings{venkateswara2017deep,
  title={Deep Hashing Network for Unsupervised Domain Adaptation},
  author={Venkateswara, Hemanth and Eusebio, Jose and Chakraborty, Shayok and Panchanathan, Sethuraman},
  booktitle={CVPR}, year={2017}}"""


class Office31(PhotoBuilder):
    """Office-31: 4,110 office objects in 31 classes, from a shop's pages, a reflex camera and a webcam."""

    protocol = protocols()["office31"]
    BUILDER_CONFIGS = _configs(protocol)
    MANUAL_DOWNLOAD_INSTRUCTIONS = _instructions(protocol)
    homepage = "https://faculty.cc.gatech.edu/~judy/domainadapt/"
    citation = """@inproceedings{saenko2010adapting,
  title={Adapting Visual Category Models to New Domains},
  author={Saenko, Kate and Kulis, Brian and Fritz, Mario and Darrell, Trevor},
  booktitle={ECCV}, year={2010}}"""


class Caltech256(PhotoBuilder):
    """Caltech-256: 29,780 photographs in 256 classes; the class "clutter" is left out."""

    protocol = dataclasses.replace(
        protocols()["imagenet_caltech"],
        name="caltech256",
        folders=(),
        origin="download and extract https://data.caltech.edu/records/nyy15-4j048",
        layout="256_ObjectCategories/001.ak47/*.jpg (256 folders; 257.clutter is ignored)",
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = _instructions(protocol)
    homepage = "https://data.caltech.edu/records/nyy15-4j048"
    citation = """@techreport{griffin2007caltech,
  title={Caltech-256 Object Category Dataset},
  author={Griffin, Gregory and Holub, Alex and Perona, Pietro},
  institution={California Institute of Technology}, year={2007}}"""
