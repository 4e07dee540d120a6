"""Implicit semantic response alignment: class2vec, topic attention receptors, attention and alignment."""

from isra_keras.semantic.class2vec import Class2Vec
from isra_keras.semantic.plugin import SemanticAlignment
from isra_keras.semantic.receptors import TopicReceptors

__all__ = ["Class2Vec", "SemanticAlignment", "TopicReceptors"]
