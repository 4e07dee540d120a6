"""Topic attention receptors: J small regressors as one batched bank (Eq. 2)."""

import keras
from keras import ops

from isra_keras.initializers import TorchUniform
from isra_keras.semantic.kernels import inner_products, shared_product
from isra_keras.semantic.weights_norm import product_and_l1


@keras.saving.register_keras_serializable("isra_keras")
class TopicReceptors(keras.layers.Layer):
    """g_j(x) = V_j ReLU(W_j x + b_j) + c_j for all topics j at once: features (J or 1, n, d) -> responses (J, n).

    Weights are stacked with a leading topic axis and used by one batched matrix product, never by a loop:
    hidden_kernel (J, d, h), hidden_bias (J, h), output_kernel (J, h, 1), output_bias (J, 1). Always float32.

    Args:
        num_topics: J.
        width: h, hidden units of a receptor; 128 in the authors' code.
    """

    def __init__(self, num_topics, width=128, **kwargs):
        kwargs.setdefault("name", "receptors")
        super().__init__(dtype="float32", **{k: v for k, v in kwargs.items() if k != "dtype"})
        self.num_topics, self.width = num_topics, width

    def build(self, input_shape):
        topics, depth, width = self.num_topics, input_shape[-1], self.width
        hidden, output = TorchUniform(depth), TorchUniform(width)

        def add(name, shape, initializer):
            return self.add_weight(shape=shape, initializer=initializer, name=name)

        self.hidden_kernel = add("hidden_kernel", (topics, depth, width), hidden)
        self.hidden_bias = add("hidden_bias", (topics, width), TorchUniform(depth))
        self.output_kernel = add("output_kernel", (topics, width, 1), output)
        self.output_bias = add("output_bias", (topics, 1), TorchUniform(width))
        self.built = True

    def call(self, features):
        """Responses (J, n) to features (J, n, d), or to (n, d), the same for every topic."""
        return self.respond(self.hidden(features))

    def hidden(self, features):
        """Hidden units (J, n, h) for float32 features (J, n, d), or (n, d), the same for every topic."""
        multiply = shared_product if len(features.shape) == 2 else ops.matmul
        return self._activate(multiply(features, self.hidden_kernel))

    def hidden_and_l1(self, features):
        """`hidden` of features (n, d), and sum_j ||W_j||_1 of the first layer: float32 scalar, sub-gradient 0 at 0."""
        product, norm = product_and_l1(features, ops.convert_to_tensor(self.hidden_kernel), shared_product)
        return self._activate(product), norm

    def _activate(self, product):
        return ops.relu(product + self.hidden_bias[:, None, :])

    def respond(self, hidden):
        """Responses (J, n) of hidden units (J, n, h)."""
        return inner_products(hidden, ops.convert_to_tensor(self.output_kernel)) + self.output_bias

    def bias_l1(self):
        """sum_j ||b_j||_1, which the authors' code adds: float32 scalar."""
        return ops.sum(ops.abs(self.hidden_bias))

    def get_config(self):
        return super().get_config() | {"num_topics": self.num_topics, "width": self.width}
