"""Saved models load after `import isra_keras` alone, in whatever order it and Keras were imported, without loading Keras here.

Keras looks classes up in its registry, where a class stands once its module was imported. Until then the registry has a
`Deferred` of its name, which imports the module when a file asks for the class.
"""

import importlib.abc
import importlib.util
import sys

from isra_keras.methods import METHODS

PACKAGE = "isra_keras"
MODULES = {
    "AdaptationModel": "model",
    "CaffePreprocessing": "backbones.preprocessing",
    "Class2Vec": "semantic.class2vec",
    "DomainDiscriminator": "layers.domain_discriminator",
    "FixedStatisticsPart": "backbones.part",
    "GlorotNormal": "initializers",
    "InverseDecay": "training.schedules",
    "L2PreservingDropout": "backbones.l2_dropout",
    "NetworkPart": "backbones.part",
    "PartMomentumSGD": "training.part_momentum",
    "PartwiseSGD": "training.optimizer",
    "PrototypeHead": "layers.prototype_head",
    "SemanticAlignment": "semantic.plugin",
    "SourceSelector": "layers.source_selector",
    "StackedDiscriminator": "layers.stacked_discriminator",
    "TopicReceptors": "semantic.receptors",
    "TorchBatchNormalization": "backbones.batch_norm",
    "TorchUniform": "initializers",
    "WeightNormDense": "backbones.weight_norm",
}
"""{registered class: its module below the package}; those of the methods come from their own table."""


class Deferred:
    """Stands for a registered class until something is asked of it.

    Args:
        name: of the class.
        module: below the package.
    """

    def __init__(self, name, module):
        self._name, self._module = name, module

    def __getattr__(self, attribute):
        if attribute.startswith("__"):  # probing by copy, pickle and inspect is no reason to import
            raise AttributeError(attribute)
        return getattr(getattr(importlib.import_module(f"{PACKAGE}.{self._module}"), self._name), attribute)


def install():
    """Puts the names into Keras's registry, now or as soon as Keras is imported."""
    if hasattr(sys.modules.get("keras"), "saving"):
        _register(sys.modules["keras"])
    else:
        sys.meta_path.insert(0, _KerasWatch())


def deferred():
    """{name: module below the package} of all registered classes."""
    methods = (entry.split(":") for entry in METHODS.values())
    return MODULES | {name: f"methods.{module}" for module, name in methods}


class _KerasWatch(importlib.abc.MetaPathFinder):
    """Calls `_register` once Keras has been imported. (wrapt has this too; it is not there without TensorFlow.)"""

    asking = False

    def find_spec(self, name, path, target=None):
        if name != "keras" or self.asking:
            return None
        self.asking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.asking = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module):
                execute(module)
                _register(module)

            spec.loader.exec_module = execute_and_register
        return spec


def _register(keras):
    known = keras.saving.get_custom_objects()
    for name, module in deferred().items():
        known.setdefault(f"{PACKAGE}>{name}", Deferred(name, module))
