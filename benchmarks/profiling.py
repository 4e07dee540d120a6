"""What TensorFlow's own profiler says of a call, and what a graph has to do: times and counts by kind of operation.

No command of its own; `profiles.py` makes predictions of these. A profile is read from the .xplane.pb that
`tf.profiler.experimental` leaves, with the reader that TensorFlow brings. Every instant of a call is shared equally among
the operations that run then, in whatever threads, so that the times of all kinds and of IDLE are the call's. Where one
thread computes, a call is the same operations every time, and of each (and of each gap before one) the shortest of all
calls counts: whatever else the machine does makes operations longer, never shorter.
"""

import re
import statistics
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

IDLE, PRODUCTS, DECODING, READERS = "no operation", "matrix products", "decoding", "reading in Python"
"""IDLE: no operation runs. Python, the dispatch of operations, a thread that waits for another."""
KINDS = (  # a depthwise convolution is a sum of the semantic step; no profile here is of a network that has others
    (PRODUCTS, r"MatMul|Einsum|(?<!Depthwise)Conv"),
    (DECODING, r"^Decode$"),  # of `traced`
    (READERS, r"PyFunc"),
    ("starting the data set", r"Dataset|Iterator"),
    ("updates of weights", r"^(Resource)?(Apply|Assign)"),
    ("reductions", r"^(Sum|Max|Min|Mean|Prod|ArgMax|All|Any|L2Loss|BiasAddGrad|Softmax|LogSoftmax|Norm|EuclideanNorm|Depthwise)"),
    ("copies", r"Transpose|Broadcast|Tile|Concat|Slice|Gather|Scatter|Pack|Split|Fill|Cast|Zeros|Ones|Pad|OneHot|Snapshot"
     r"|Identity|Reshape|Range|Reverse|Inplace"),
)  # fmt: skip
OTHERS = "elementwise"
PASSED_OVER = re.compile(r"^(While|StatelessWhile|If|StatelessIf|\w*PartitionedCall|IteratorGetNext\w*|Enter|Exit|Switch|Merge"
                         r"|NextIteration|LoopCond|_+inference\w*)$")  # fmt: skip
"""Operations that hold others or wait for them."""
FREE = {"Const", "Placeholder", "Identity", "IdentityN", "NoOp", "ReadVariableOp", "Shape", "StopGradient", "PreventGradient",
        "Reshape", "ExpandDims", "Squeeze", "BroadcastGradientArgs", "ShapeN", "Size", "Rank"}  # fmt: skip
"""Operations of a graph that neither compute nor move anything."""
GRAPH_OPERATION = re.compile(r"^[^:]+:(\w+)$")
EAGER_OPERATION = re.compile(r"^EagerLocalExecute: (\w+)$")
EAGER_KERNEL, CALL = "KernelAndDeviceFunc::Run", "profiled call"


def kind_of(operation):
    """The kind of an operation's type, "MatMul", "_MklBatchMatMulV2"."""
    name = re.sub(r"^_?Mkl(Native)?", "", operation)
    return next((kind for kind, pattern in KINDS if re.search(pattern, name)), OTHERS)


@dataclass
class Profile:
    """One call.

    Attributes:
        ms: how long it took under the profiler.
        parts: {kind: ms}; together they are `ms`.
        launches: {kind: operations started}.
        launch_ms: what an operation costs however small it is: the quickest tenth of them take no longer.
    """

    ms: float
    parts: dict
    launches: dict
    launch_ms: float = 0.0

    def top(self, count=4):
        """{kind: ms} of the largest parts, the largest first."""
        return dict(sorted(self.parts.items(), key=lambda item: -item[1])[:count])


@dataclass
class Work:
    """What a graph's operations have to do: those in matrix products (FLOP), all others (bytes read and written)."""

    launches: dict = field(default_factory=lambda: {True: 0, False: 0})
    amount: dict = field(default_factory=lambda: {True: 0.0, False: 0.0})

    def add(self, product, amount, times=1):
        self.launches[product] += times
        self.amount[product] += times * amount


def one_thread():
    """Operations one after another, each in one thread, from here on; before TensorFlow's first operation."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def profiled(function, calls=9, warm=1, threads=False):
    """`Profile` of a function: of its quickest operations in so many calls, or of the shortest call if it has threads."""
    for _ in range(warm):
        function()
    found = calls_of(recorded(function, calls))
    return min(map(profile_of, found), key=lambda one: one.ms) if threads else profile_of(quickest(found))


def recorded(function, calls=1):
    """The profiler's host plane of some calls."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0, device_tracer_level=0)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder, options)
        try:
            for number in range(calls):
                with tf.profiler.experimental.Trace(CALL, step_num=number):
                    function()
        finally:
            tf.profiler.experimental.stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    return next(plane for plane in space.planes if plane.name == "/host:CPU")


@contextmanager
def traced(module, name, label):
    """Calls of a Python function stand in the profile as an operation of the type `label`."""
    import tensorflow as tf

    function = getattr(module, name)

    def seen(*args, **kwargs):
        with tf.profiler.experimental.Trace(f"{name}:{label}"):
            return function(*args, **kwargs)

    setattr(module, name, seen)
    try:
        yield
    finally:
        setattr(module, name, function)


def calls_of(plane):
    """[{(name, how many of that name before): (kind, ms, ms without operation before it)}] of the calls in a plane."""
    threads = [events_of(plane, line) for line in plane.lines]
    calls = sorted((start, stop) for thread in threads for start, stop, name in thread if name == CALL)
    operations = [operations_of(thread) for thread in threads]
    return [split([[one for one in thread if one[1] > start and one[0] < stop] for thread in operations], start, stop)
            for start, stop in calls]  # fmt: skip


def quickest(calls):
    """One call made of the shortest times of each operation in all calls that have it."""
    found = {}
    for call in calls:
        for key, (kind, ms, gap) in call.items():
            _, least, least_gap = found.get(key, (kind, ms, gap))
            found[key] = kind, min(ms, least), min(gap, least_gap)
    return {key: value for key, value in found.items() if 2 * sum(key in call for call in calls) > len(calls)}


def profile_of(call):
    """`Profile` of a call."""
    parts, launches = {IDLE: sum(gap for _, _, gap in call.values())}, {}
    for kind, ms, _ in call.values():
        parts[kind] = parts.get(kind, 0.0) + ms
        launches[kind] = launches.get(kind, 0) + 1
    launches.pop(IDLE, None)
    each = [ms for kind, ms, _ in call.values() if kind != IDLE]
    launch = statistics.quantiles(each, n=10)[0] if len(each) > 1 else 0.0
    return Profile(sum(parts.values()), parts, launches, launch)


def events_of(plane, line):
    """[(start, stop, name)] of a thread in picoseconds, an outer event before those inside of it."""
    base = 1000 * line.timestamp_ns
    found = [(base + event.offset_ps, base + event.offset_ps + event.duration_ps, plane.event_metadata[event.metadata_id].name)
             for event in line.events]  # fmt: skip
    return sorted(found, key=lambda one: (one[0], -one[1]))


def operations_of(thread):
    """[(start, stop, kind, name)] of a thread's operations. An eager one counts while its kernel runs; the rest is dispatch."""
    found, eager = [], (0, 0, "")
    for start, stop, name in thread:
        if match := EAGER_OPERATION.match(name):
            eager = (start, stop, match[1])
        elif name == EAGER_KERNEL and eager[0] <= start and stop <= eager[1]:
            if not PASSED_OVER.match(eager[2]):
                found.append((start, stop, kind_of(eager[2]), eager[2]))
        elif (match := GRAPH_OPERATION.match(name)) and not PASSED_OVER.match(match[1]):
            found.append((start, stop, kind_of(match[1]), name))
    return found


def split(threads, begin, end):
    """Shares the time from `begin` to `end` (ps) among operations; of those inside of one another the innermost runs.

    Args:
        threads: [[(start, stop, kind, name)]].

    Returns:
        {(name, number): (kind, ms, ms without operation before it)}; the last entry is the time after all of them.
    """
    edges = []
    for thread, events in enumerate(threads):
        for number, (start, stop, *_) in enumerate(events):
            if stop > start:
                edges += [(max(start, begin), 1, thread, number), (min(stop, end), 0, thread, number)]
    running, shares, gaps, order = [[] for _ in threads], {}, {}, []
    now, idle = begin, 0.0
    for at, starts, thread, number in sorted(edges):
        active = [(one, stack[-1]) for one, stack in enumerate(running) if stack]
        if not active:
            idle += at - now
        for one in active:
            shares[one] += (at - now) / len(active)
        now = at
        if starts:
            running[thread].append(number)
            order.append((thread, number))
            shares[thread, number], gaps[thread, number], idle = 0.0, idle, 0.0
        else:
            running[thread].remove(number)
    call, seen = {}, {}
    for thread, number in order:
        *_, kind, name = threads[thread][number]
        seen[name] = seen.get(name, -1) + 1
        call[name, seen[name]] = kind, shares[thread, number] / 1e9, gaps[thread, number] / 1e9
    return call | {("", 0): (IDLE, 0.0, (idle + end - now) / 1e9)}


def work_of(function, *arguments, trips=1):
    """`Work` of a `tf.function`, counted in its graph without running it; loops turn `trips` times."""
    graph, work = function.get_concrete_function(*arguments).graph, Work()
    count(graph, [tensor.op for tensor in graph.outputs] + list(graph.control_outputs), work, 1, trips)
    return work


def count(graph, ends, work, times, trips):
    """Adds the operations that the ends need."""
    seen, waiting = set(), list(ends)
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        waiting += [tensor.op for tensor in one.inputs] + list(one.control_inputs)
        inner = [one.get_attr(name).name for name in ("f", "body") if name in one.node_def.attr]
        for name in inner:
            body = graph._get_function(name).graph
            count(body, [tensor.op for tensor in body.outputs], work, times * (trips if one.type.endswith("While") else 1), trips)
        if not inner and one.type not in FREE:
            product = kind_of(one.type) == PRODUCTS
            work.add(product, flop(one) if product else moved(one), times)


def moved(operation):
    """Bytes that are read and written; a slice reads what it writes and no more."""
    written = sum(map(size, operation.outputs))
    sliced = operation.type in ("Slice", "StridedSlice", "GatherV2")
    return 2 * written if sliced else sum(map(size, operation.inputs)) + written


def size(tensor):
    """Bytes, 0 where the shape is not known."""
    return (tensor.shape.num_elements() or 0) * (tensor.dtype.size or 0) if tensor.shape.rank is not None else 0


def flop(operation):
    """Of a matrix product: two for each combination of all its indices."""
    out = operation.outputs[0].shape.num_elements() or 0
    if operation.type == "Einsum":
        sides = {}
        for indices, tensor in zip(operation.get_attr("equation").decode().split("->")[0].split(","), operation.inputs):
            sides |= dict(zip(indices, tensor.shape))
        total = 2
        for side in sides.values():
            total *= side
        return total
    flipped = any(operation.get_attr(name) for name in ("transpose_a", "adj_x") if name in operation.node_def.attr)
    return 2 * out * (operation.inputs[0].shape[-2 if flipped else -1] or 0)


def alive_at_peak(plane):
    """{address: bytes} of what a call of `recorded` had allocated, and not given back, when it had most."""
    changes = []
    for line in plane.lines:
        for event in line.events:
            name = plane.event_metadata[event.metadata_id].name
            if name in ("MemoryAllocation", "MemoryDeallocation"):
                values = {plane.stat_metadata[one.metadata_id].name: one.int64_value or one.uint64_value for one in event.stats}
                grows = name == "MemoryAllocation"
                changes.append((1000 * line.timestamp_ns + event.offset_ps, grows, values["addr"], values["requested_bytes"]))
    alive, most, peak = {}, 0, {}
    for _, grows, address, count_of_bytes in sorted(changes):
        if grows:
            alive[address] = count_of_bytes
            if sum(alive.values()) > most:
                most, peak = sum(alive.values()), dict(alive)
        else:
            alive.pop(address, None)  # what was there before the call is none of its
    return peak
