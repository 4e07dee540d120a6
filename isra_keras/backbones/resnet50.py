"""ResNet-50 of `keras.applications`: caffe preprocessing, (n, height, width, 3) -> (n, 2048).

Not the network of the paper, which is torchvision's: the stride sits on the first 1x1 convolution of a block,
convolutions have biases, and the weights were trained by other people; expect a point or two of difference.
`resnet50_torch` has the other layout.
"""

import keras

from isra_keras.backbones import preprocessing

DOWNLOADS = True
WIDTH = 2048  # of the pooled features


def create(image_shape, pretrained):
    """(normalisation layer, network without top and pooling)."""
    weights = "imagenet" if pretrained else None
    base = keras.applications.ResNet50(include_top=False, weights=weights, input_shape=image_shape, name="resnet50")
    return preprocessing.caffe(), base
