"""Attention and alignment of many topics, a block of topics at a time: the (J, n, d) attention never exists whole.

The alignment needs the attention only for sums over a topic's rows, and its gradient to the features is a sum over
topics in which the attention is a constant. So one pass over blocks gives both, and nothing is kept for a backward
pass: `with_slope` hands the finished gradient to whatever differentiates the loss.
"""

import math
from numbers import Integral

from keras import ops

from isra_keras.losses import safe
from isra_keras.semantic.kernels import device_kind, sum_of_squares, sum_over_rows, sum_over_topics, where_positive

BLOCK_BYTES = {"cpu": 8 * 2**20, "gpu": 256 * 2**20}
"""Attention that exists at once. A few MiB stay in a processor's cache (benchmarks/semantic_step.py --blocks measures
sizes); a GPU wants large products."""


def block_size(topic_block, num_topics, rows, depth, device=None):
    """Topics in a block.

    Args:
        topic_block: "auto", a number, or None for all topics at once.
        num_topics, rows, depth: J, n, d.
        device: "cpu" or "gpu"; by default what Keras runs on.

    Returns:
        int in [1, J].

    Raises:
        ValueError: topic_block is neither of these.
    """
    if topic_block is None:
        return num_topics
    if topic_block == "auto":
        return max(1, min(num_topics, BLOCK_BYTES[device or device_kind()] // (4 * rows * depth)))
    if isinstance(topic_block, bool) or not isinstance(topic_block, Integral) or topic_block < 1:
        raise ValueError(f'Expected topic_block to be "auto", an integer >= 1 or None; received {topic_block!r}.')
    return min(int(topic_block), num_topics)


def response_gradients(slopes, kernel):
    """Gradient of f_ji g_j(x_i) with respect to x_i: W_j (f_ji [hidden_ji > 0] V_j).

    What a backward pass through the receptors gives, in one batched product.

    Args:
        slopes: (J, n, h) float32, of `hidden_slopes`.
        kernel: (J, d, h) float32, W.

    Returns:
        (J, n, d) float32.
    """
    return ops.einsum("jnh,jdh->jnd", slopes, kernel)


def hidden_slopes(hidden, output_kernel, factors=None):
    """Gradient of f_ji g_j(x_i) with respect to the hidden units: f_ji [hidden_ji > 0] V_j.

    Args:
        hidden: (J, n, h) float32, the receptors' hidden units.
        output_kernel: (J, h, 1) float32, V.
        factors: f, (J, n) float32, or None for ones.

    Returns:
        (J, n, h) float32.
    """
    slopes = ops.transpose(output_kernel, (0, 2, 1))
    if factors is not None:
        slopes = ops.expand_dims(factors, -1) * slopes
    return where_positive(slopes, hidden)


def align_topics(receptors, hidden, factors, features, row_weights, normalisation, count, block):
    """Eq. 3 of all topics, with what is reported about them.

    Args:
        receptors: `TopicReceptors`.
        hidden: (J, n, h) float32, the receptors' hidden units for `features`; a constant here.
        factors: (J, n) float32 or None, see `hidden_slopes`.
        features: (n, d) float32.
        row_weights: (n,) float32, see `topic_alignment`.
        normalisation: "frobenius" or "row".
        count: n' of `normalise_attention`.
        block: topics at a time, from `block_size`.

    Returns:
        Dict of float32: "alignment" scalar, the sum over topics and d, whose gradient reaches `features` alone;
        constants "largest" (the largest topic's share), "sparsity" (mean Hoyer sparsity of the attention), scalars.
    """
    constants = [ops.stop_gradient(ops.convert_to_tensor(value)) for value in
                 (hidden, receptors.hidden_kernel, *to_unit_scale(receptors.output_kernel, factors, normalisation))]  # fmt: skip
    weights = ops.reshape(ops.convert_to_tensor(row_weights, dtype="float32"), (-1, 1))
    weighted = ops.stop_gradient(features) * weights
    topics = int(hidden.shape[0])

    def add(totals, start, size):
        """Adds topics start to start + size."""

        def part(tensor):
            rest = ops.shape(tensor)[1:]
            return ops.slice(tensor, (start, *(0 for _ in rest)), (size, *rest)) if size < topics else tensor

        alignment, largest, sparsity, slope = totals
        units, kernel, output_kernel, residuals = map(part, constants)
        attention = ops.abs(response_gradients(hidden_slopes(units, output_kernel, residuals), kernel))
        shares, pull, hoyer = _align_block(attention, weighted, normalisation, count)
        return (
            alignment + ops.sum(shares),
            ops.maximum(largest, ops.max(shares)),
            sparsity + ops.sum(hoyer),
            slope + pull,
        )

    zero = ops.zeros((), "float32")
    totals, whole = (zero, zero, zero, ops.zeros_like(weighted)), topics // block
    if whole > 1:
        totals = ops.fori_loop(0, whole, lambda number, sums: add(sums, number * block, block), totals)
    elif whole:
        totals = add(totals, 0, block)
    if topics % block:
        totals = add(totals, whole * block, topics % block)
    alignment, largest, sparsity, slope = (ops.stop_gradient(total) for total in totals)
    return {
        "alignment": with_slope(alignment, slope * weights, features),
        "largest": largest,
        "sparsity": sparsity / topics,
    }


def _align_block(attention, weighted, normalisation, count):
    """Shares of the alignment (J,), their gradient to the weighted features (n, d), Hoyer sparsity (J,).

    The normalisers are multiplied in after the sums, where there is a row or a number for each topic and no longer a
    matrix. Attention (J, n, d) is of a scale whose squares are float32, see `to_unit_scale`.
    """
    if normalisation == "row":
        attention = attention * inverse_root(sum_of_squares(attention, -1, keepdims=True))
    totals = sum_of_squares(attention, (1, 2))
    difference = sum_over_rows(attention, weighted)  # (J, d): source minus target
    scale = (inverse_root(totals) if normalisation == "frobenius" else ops.ones_like(totals)) * count
    shares = ops.square(scale) * ops.sum(ops.square(difference), axis=-1)
    pull = sum_over_topics(attention, ops.square(scale)[:, None] * 2.0 * difference)
    entries = ops.cast(math.prod(ops.shape(attention)[1:]), "float32")
    return shares, pull, hoyer_sparsity(ops.sum(attention, axis=(1, 2)), totals, entries)


def to_unit_scale(output_kernel, factors, normalisation):
    """V and f, each divided by its largest entry in a topic, which the normalisation cancels.

    Their product is what vanishes late in the reference's training, so that the squares of its gradients would be no
    float32 any more; the weights W do not.

    Args:
        output_kernel: (J, h, 1) float32.
        factors: (J, n) float32, or None for ones.
        normalisation: "frobenius" or "row", where f of a row cancels too, unless it is 0.

    Returns:
        (V, f) of the same shapes.
    """
    output_kernel = ops.convert_to_tensor(output_kernel)
    if factors is None:
        factors = ops.ones((output_kernel.shape[0], 1))
    if normalisation == "row":
        factors = ops.sign(factors)
    return tuple(one / safe(ops.max(ops.abs(one), axis=1, keepdims=True)) for one in (output_kernel, factors))


def inverse_root(squares):
    """1 / sqrt(squares), 0 where they are 0."""
    return ops.where(squares > 0, ops.rsqrt(safe(squares)), ops.zeros_like(squares))


def hoyer_sparsity(l1, squares, size):
    """(sqrt(N) - l1 / l2) / (sqrt(N) - 1) of each topic's attention: 0 uniform, 1 one single entry.

    Args:
        l1: (J,) float32, sum of the attention's N entries.
        squares: (J,) float32, l2^2, sum of their squares.
        size: N = n d.

    Returns:
        (J,) float32 in [0, 1]; a topic without attention counts as 0.

    Reference:
        Hoyer, "Non-negative Matrix Factorization with Sparseness Constraints", JMLR 2004.
    """
    root = size**0.5
    sparsity = (root - l1 * inverse_root(squares)) / (root - 1.0)
    return ops.where(squares > 0, sparsity, ops.zeros_like(sparsity))


def with_slope(value, slope, inputs):
    """`value`, whose gradient with respect to `inputs` is `slope`, and nothing else's.

    Args:
        value: float scalar, a constant.
        slope: tensor shaped like `inputs`, a constant.
        inputs: the tensor to send the gradient to.
    """
    return value + ops.sum(slope * (inputs - ops.stop_gradient(inputs)))
