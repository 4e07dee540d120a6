"""Layers of the methods: gradient reversal, the domain discriminator, one discriminator a class."""

from isra_keras.layers.domain_discriminator import DomainDiscriminator
from isra_keras.layers.gradient_reversal import dann_coefficient, reverse_gradient
from isra_keras.layers.stacked_discriminator import StackedDiscriminator

__all__ = ["DomainDiscriminator", "StackedDiscriminator", "dann_coefficient", "reverse_gradient"]
