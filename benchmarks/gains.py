"""Gains of `profiles.py` that are another form of the same maths: the way without it, the way with it, what to expect.

No command of its own. The way without the gain is written out here; what both ways compute is compared before anything
is timed.
"""

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Callable

import numpy as np
from measure import short
from profiling import IDLE, PRODUCTS, profiled, work_of

WIDTH, ROWS, L1 = 128, 81, 0.5
SCALED = ("Matrix products keep the time of a FLOP, all other operations that of a byte, each plus what the quickest tenth of "
          "operations take, times their number in the other way's graph; time without operation goes with that number.")  # fmt: skip


@dataclass
class Pair:
    """The two ways.

    Attributes:
        before, after: functions without arguments.
        predict: `Profile` of `before` -> {part: ms of `after` at the same rates}. It never runs `after`.
        profile: function -> its `Profile`.
        clock: seconds, of `turns`.
        more: {field of the line: value}.
    """

    before: Callable
    after: Callable
    predict: Callable
    profile: Callable = profiled
    clock: Callable = time.process_time
    more: dict = field(default_factory=dict)


def scaled(profile, before, after):
    """The formula `SCALED`: {part: ms} from a profile and the `Work` of both graphs."""
    groups = {PRODUCTS: True, "other operations": False}
    parts = {IDLE: profile.parts[IDLE] * sum(after.launches.values()) / max(sum(before.launches.values()), 1)}
    for name, product in groups.items():
        chosen = [kind for kind in profile.launches if (kind == PRODUCTS) == product]
        taken = sum(profile.parts[kind] for kind in chosen)
        starts = min(taken, profile.launch_ms * sum(profile.launches[kind] for kind in chosen))
        parts[name] = (starts * after.launches[product] / max(before.launches[product], 1)
                       + (taken - starts) * after.amount[product] / max(before.amount[product], 1))  # fmt: skip
    return parts


def graphs(before, after, features, trips=1, eager=False):
    """`Pair` of two `tf.function`s, features -> (scalar, gradients), the second with loops that turn `trips` times.

    Args:
        eager: the first runs operation by operation.
    """
    seconds, results, works = {}, [], []
    for name, function, turned in (("before", before, 1), ("after", after, trips)):
        started = time.process_time()
        works.append(work_of(function, features, trips=turned))
        results.append(function(features))
        seconds[name] = short(time.process_time() - started, 3)
    first = before.python_function if eager else before
    more = {"difference": short(difference(*results), 2)} | ({} if eager else {"seconds_to_compile": seconds})
    return Pair(lambda: first(features)[0].numpy(), lambda: after(features)[0].numpy(),
                lambda profile: scaled(profile, *works), more=more)  # fmt: skip


def difference(one, other):
    """The largest of the relative differences of scalars and gradients, those of stacked weights side by side."""
    import tensorflow as tf

    found = []
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        found.append(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30))
    return float(max(found))


@contextmanager
def topic_loop(depth, topics, eager=False):
    """ISRA's step on the receptors: one small network after another against one batched bank."""
    semantic, features, embeddings, weights = semantic_part(depth, topics)
    yield graphs(loop_over_topics(semantic, embeddings, weights), closed_form(semantic, weights), features,
                 blocks_of(depth, topics), eager)  # fmt: skip


@contextmanager
def tape(depth, topics):
    """The attention by a second tape over a copy of the features for each topic against its closed form."""
    semantic, features, _, weights = semantic_part(depth, topics)
    yield graphs(by_tape(semantic, weights), closed_form(semantic, weights), features, blocks_of(depth, topics))


@contextmanager
def turned(depth, topics):
    """The kernels' gradient from features transposed for each topic anew against features transposed once for all."""
    import tensorflow as tf
    from keras import ops

    from isra_keras.semantic import receptors

    semantic, features, _, weights = semantic_part(depth, topics)
    before, ours = closed_form(semantic, weights, plain=True), receptors.shared_product  # which that form alone calls
    receptors.shared_product = lambda rows, kernel: ops.matmul(rows[None], kernel)
    try:
        before(features)
    finally:
        receptors.shared_product = ours
    pair = graphs(before, closed_form(semantic, weights, plain=True), features, blocks_of(depth, topics))
    product, times = tf.function(lambda: tf.matmul(features[None], weights[0])), []
    for _ in range(9):
        started = time.process_time()
        product()
        times.append(1e3 * (time.process_time() - started))
    pair.predict = lambda profile: profile.parts | {PRODUCTS: 3 * min(times)}
    yield pair


@contextmanager
def passes(depth, topics):
    """The plain form of the sums, which XLA would fuse, against the operations of `isra_keras.semantic.kernels`."""
    semantic, features, _, weights = semantic_part(depth, topics, block=topics)
    yield graphs(closed_form(semantic, weights, plain=True), closed_form(semantic, weights), features)


def blocks_of(depth, topics, rows=ROWS):
    """Blocks in which the library takes the topics."""
    from isra_keras.semantic.blocks import block_size

    return topics // block_size("auto", topics, rows, depth)


def semantic_part(depth, topics, rows=ROWS, block="auto"):
    """(plug-in, features, embeddings, receptors' weights)."""
    import keras
    import tensorflow as tf

    from isra_keras.semantic import SemanticAlignment

    keras.utils.set_random_seed(0)
    semantic = SemanticAlignment(topics, receptor_l1=L1, receptor_width=WIDTH, variant="reference", topic_block=block)
    semantic.build_parts(depth, 10, depth, {})
    features = tf.random.stateless_normal((rows, depth), (1, 2))
    receptors = semantic.receptors
    weights = [one.value for one in (receptors.hidden_kernel, receptors.hidden_bias, receptors.output_kernel,
                                     receptors.output_bias)]  # fmt: skip
    return semantic, features, semantic.class2vec(features)[0], weights


def views_of(features):
    """`Views` of the rows, a half each, without a middle batch."""
    from isra_keras.objective import View, Views

    half = features.shape[0] // 2
    parts = [View(images=None, pooled=None, features=one, logits=None) for one in (features[:half], features[half:])]
    return Views(*parts, None)


def closed_form(semantic, weights, plain=False):
    """The library's step, or its form for XLA: features -> (alignment, gradients)."""
    import tensorflow as tf

    from isra_keras.semantic.kernels import one_by_one

    @tf.function(autograph=False)
    def step(features):
        with tf.GradientTape() as tape, one_by_one(not plain):
            tape.watch(features)
            terms = semantic.loss_terms(views_of(features), None)
            total = terms["receptors"] + terms["alignment"]
        return terms["alignment"], tape.gradient(total, [features, *weights])

    return step


def by_tape(semantic, weights):
    """The same, attention whole and by differentiating the receptors at a copy of the features for each topic."""
    import tensorflow as tf
    from keras import ops

    from isra_keras.semantic.alignment import topic_alignment
    from isra_keras.semantic.attention import normalise_attention, topic_attention

    @tf.function(autograph=False)
    def step(features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            embeddings, _ = semantic.class2vec(features)
            values, attention = topic_attention(semantic.receptors, features, semantic.num_topics)
            residuals = values - tf.stop_gradient(tf.transpose(embeddings))
            kernel, bias = weights[:2]
            norms = tf.reduce_sum(tf.abs(kernel)) + tf.reduce_sum(tf.abs(bias))
            rows = features.shape[0]
            loss = (tf.reduce_sum(tf.square(residuals)) / rows + L1 * norms) / semantic.num_topics
            factors = tf.stop_gradient(tf.abs(residuals))[:, :, None] * (2 / (rows * semantic.num_topics))
            attention = normalise_attention(tf.stop_gradient(attention) * factors, count=float(rows))
            shares = topic_alignment(attention, features, semantic.row_weights(views_of(features)))
            alignment = ops.sum(shares) / features.shape[1]
            total = loss + alignment
        return alignment, tape.gradient(total, [features, *weights])

    return step


def loop_over_topics(semantic, embeddings, weights):
    """The same, as the authors' code has it: a network, a loss, and a tape for each topic in turn, in one graph."""
    import tensorflow as tf

    networks = [[tf.Variable(one[number]) for one in weights] for number in range(semantic.num_topics)]
    signs = semantic.row_weights(views_of(tf.zeros((embeddings.shape[0], 1))))[:, None]

    @tf.function(autograph=False)
    def step(features):
        alignment, pull, gradients = 0.0, 0.0, []
        rows, depth = features.shape
        for number, network in enumerate(networks):
            kernel, bias, output, constant = network
            with tf.GradientTape() as tape:
                tape.watch(features)
                hidden = tf.nn.relu(features @ kernel + bias)
                residual = (hidden @ output)[:, 0] + constant - tf.stop_gradient(embeddings[:, number])
                data = tf.reduce_mean(tf.square(residual))
                norms = tf.reduce_sum(tf.abs(kernel)) + tf.reduce_sum(tf.abs(bias))
                loss = (data + L1 * norms) / semantic.num_topics
            of_features, *of_network = tape.gradient(loss, [features, *network])
            gradients.append(of_network)
            attention = tf.abs(of_features)
            attention *= rows / tf.norm(attention)
            with tf.GradientTape() as tape:
                tape.watch(features)
                shift = tf.reduce_sum(features * attention * signs, axis=0)
                share = tf.reduce_sum(tf.square(shift)) / depth
            alignment, pull = alignment + share, pull + tape.gradient(share, features)
        return alignment, [pull, *(tf.stack(one) for one in zip(*gradients))]

    return step


@contextmanager
def class_loop(classes, depth, width):
    """SAN's discriminators: one network for each class after another against `StackedDiscriminator`."""
    import tensorflow as tf

    from isra_keras.layers import StackedDiscriminator
    from isra_keras.losses import domain_cross_entropy

    rows = 72
    features = tf.random.stateless_normal((rows, depth), (1, 2))
    shares = tf.nn.softmax(tf.random.stateless_normal((classes, rows), (1, 3)), axis=0)
    domain = tf.concat([tf.ones(rows // 2), tf.zeros(rows // 2)], 0)
    stacked = StackedDiscriminator(classes, (width,), dropout=0.0)
    stacked.build((classes, None, depth))
    weights = [one.value for pair in zip(stacked.kernels, stacked.biases) for one in pair]
    networks = [[tf.Variable(one[number]) for one in weights] for number in range(classes)]

    @tf.function(autograph=False)
    def loop(features):
        total = 0.0
        with tf.GradientTape() as tape:
            tape.watch(features)
            for number, (kernel, bias, output, constant) in enumerate(networks):
                hidden = tf.nn.relu((shares[number][:, None] * features) @ kernel + bias)
                total += tf.reduce_mean(domain_cross_entropy((hidden @ output + constant)[:, 0], domain))
        first, of_networks = tape.gradient(total, [features, networks])
        return total, [first, *(tf.stack(one) for one in zip(*of_networks))]

    @tf.function(autograph=False)
    def batched(features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            losses = domain_cross_entropy(stacked(shares[:, :, None] * features[None], training=True), domain)
            total = tf.reduce_sum(tf.reduce_mean(losses, axis=1))
        return total, tape.gradient(total, [features, *weights])

    yield graphs(loop, batched, features)


@contextmanager
def blocks(depth, topics, rows):
    """Memory of a step with the attention whole against the attention in blocks of topics."""
    from isra_keras.semantic.blocks import block_size

    ways = {}
    for block in (None, "auto"):
        semantic, features, _, weights = semantic_part(depth, topics, rows, block)
        ways[block] = closed_form(semantic, weights), features
    whole, share = 4 * topics * rows * depth, block_size("auto", topics, rows, depth) / topics

    def run(block):
        step, features = ways[block]
        return lambda: step(features)[0].numpy()

    def predict(alive):
        attention = sum(count for count in alive if count == whole)
        return {"attention": share * attention / 2**20, "all else": (sum(alive) - attention) / 2**20}

    yield Pair(run(None), run("auto"), predict)
