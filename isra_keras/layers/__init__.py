"""Layers shared by several methods: gradient reversal and the domain discriminator."""

from isra_keras.layers.domain_discriminator import DomainDiscriminator
from isra_keras.layers.gradient_reversal import dann_coefficient, reverse_gradient

__all__ = ["DomainDiscriminator", "dann_coefficient", "reverse_gradient"]
