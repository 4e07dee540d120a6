"""Hausdorff triplet loss of a selection of source rows against the target (SLM)."""

from keras import ops

from isra_keras.losses.distances import squared_distances


def hausdorff_triplet(source, target, kept, margin=100.0, axis="rows"):
    """relu(d(a) - d(1 - a) + margin): kept source rows shall lie nearer to the target than rejected ones.

    d(v) = mean_i min_j M_ij + mean_j min_i M_ij, M_ij = ||f_s,i - f_t,j|| v_i ("rows", what the paper means) or
    v_j ("columns", what the authors' code computes by broadcasting). Features are constants: only the selector
    learns. Among ties, and a hard selection makes whole rows of zeros, the gradient goes to the first entry.

    Args:
        source: (n, d) float32.
        target: (m, d) float32; m = n for axis "columns".
        kept: a, (n,) float32 in [0, 1].
        margin: float.
        axis: "rows" or "columns".

    Returns:
        float32 scalar.

    Reference:
        Sahoo et al., "Select, Label, and Mix", WACV 2023, equation 2; the official Hausdorff module.
    """
    distances = ops.stop_gradient(ops.sqrt(squared_distances(source, target)))

    def distance(values):
        weighted = distances * (values[:, None] if axis == "rows" else values[None, :])
        return ops.mean(first_minimum(weighted, axis=1)) + ops.mean(first_minimum(weighted, axis=0))

    return ops.relu(distance(kept) - distance(1.0 - kept) + margin)


def first_minimum(x, axis):
    """Minimum along an axis whose gradient goes to its first occurrence alone (`ops.min` spreads it over ties)."""
    index = ops.expand_dims(ops.argmin(ops.stop_gradient(x), axis=axis), axis)
    return ops.squeeze(ops.take_along_axis(x, index, axis=axis), axis=axis)
