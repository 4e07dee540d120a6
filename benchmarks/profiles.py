"""Each gain in speed: the profile before it, the time that this profile predicts, the time and the profile after it.

    python benchmarks/profiles.py            all of them
    python benchmarks/profiles.py --quick    the graphs, the step and oneDNN, fewer turns
    python benchmarks/profiles.py --only "decoded cache, 256 px"    one; the others' lines stay

For each gain, in this order: the way without it runs under TensorFlow's profiler; a formula, fixed beforehand, makes a
prediction of that profile and of counts; both ways take turns; the way with it is profiled. All but "reading ahead" run on
one thread and are timed in the processor's time, medians, so that a profile adds up and others on the machine count less.
The formula gives a ratio, so that the profiler's own cost cancels: predicted_ms is before_ms over predicted_gain. The
formulas are as they were before the first result; what counts as an operation and as its bytes was mended since. Images are those of Office-Caltech10 in ISRA_TEST_DATA, or made on the spot. Writes
benchmarks/results/profiles.jsonl (profiles_quick.jsonl), a line as it comes.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import gains
import gains_running
from measure import cell, renew, short, turns
from profiling import alive_at_peak, one_thread, recorded

SLOWED = ("Under the profiler every operation takes a little longer, so that the profile of the way with many of them is longer "
          "than its time and promises more than there is to gain.")  # fmt: skip
KEYS = ("probe", "gain_of")
NEAR = 1.25
"""A prediction is met where it is off by no more than this factor."""


@dataclass
class Gain:
    """One gain.

    Attributes:
        pair: function of a folder that gives a context of a `Pair`.
        reason: why there should be a gain.
        formula: of the prediction.
        rounds: turns, and of the quick form; None leaves the gain out of that.
        missed: what was found out about a prediction that missed.
        memory: bytes instead of time, in a process of its own.
        threads: on all cores, in a process of its own; all others have one thread.
    """

    pair: Callable
    reason: str
    formula: str
    rounds: tuple = (9, 5)
    missed: str = ""
    memory: bool = False
    threads: bool = False


GAINS = {
    "topics as one product, d 256, J 64": Gain(
        lambda folder: gains.topic_loop(256, 64),
        "A network for each topic starts J times as many operations for the same products.", gains.SCALED,
        missed=SLOWED,
    ),
    "topics as one product, run as written, d 256, J 64": Gain(
        lambda folder: gains.topic_loop(256, 64, eager=True),
        "The same as the authors' code runs it: Python starts every operation of every network.", gains.SCALED, (5, None),
        "The formula takes the same for starting an operation in both ways; Python takes far longer than a graph's executor.",
    ),
    "topics as one product, d 512, J 256": Gain(
        lambda folder: gains.topic_loop(512, 256),
        "As in a graph of fewer topics, more of them of more features.", gains.SCALED, (5, None), SLOWED,
    ),
    "attention in closed form, d 512, J 256": Gain(
        lambda folder: gains.tape(512, 256),
        "A tape wants a copy of the features for each topic and the attention as a whole: more bytes, the same products.",
        gains.SCALED, (7, None), "A block is still in the cache when the next operation comes to it, and a loop's operations start at once.",
    ),
    "features transposed once, d 2048, J 64": Gain(
        lambda folder: gains.turned(2048, 64),
        "The products of a step have as many FLOP each; the one for the kernels' gradient takes far longer than the others.",
        "Each of the three products takes as long as the one that transposes nothing, run by itself; all else stays.",
    ),
    "fewer passes over topics and weights, d 2048, J 16": Gain(
        lambda folder: gains.passes(2048, 16),
        "Without XLA each operation reads and writes its tensors on its own: a square that is summed, a product that is summed, the "
        "slope of the L1 norm, each as large as the attention or the weights.", gains.SCALED,
    ),
    "attention in blocks, memory, d 512, J 256, n 512": Gain(
        lambda folder: gains.blocks(512, 256, 512),
        "Of what is allocated when memory is fullest, most is attention, (J, n, d), which a block needs a part of.",
        "What is as large as the whole attention when memory is fullest shrinks to a block's share, all else stays.",
        (1, None), "Without the attention memory is fullest at another moment, with one more tensor of the size of the hidden units.",
        True,
    ),
    "SAN's discriminators as one product, C 65": Gain(
        lambda folder: gains.class_loop(65, 256, 256),
        "A network for each class starts C times as many operations for the same products.", gains.SCALED, missed=SLOWED,
    ),
    "compiled step, BA3US + ISRA on features": Gain(
        lambda folder: gains_running.compiled(),
        "Between the operations of a step that is run as it is written, Python decides what comes next.",
        "Time in which no operation runs goes away, all operations stay as they are.",
        missed="A graph also joins operations and drops those that nothing needs: it starts fewer (operations_after).",
    ),
    "one graph for all middle batches, BA3US + ISRA on features": Gain(
        lambda folder: gains_running.open_middle(),
        "BA3US's middle batch shrinks at every evaluation, and a graph takes as long to make as a hundred steps.",
        "Of nine graphs one is made; the steps stay as they are.", (3, None),
    ),
    "oneDNN, BA3US + ISRA on features": Gain(
        lambda folder: gains_running.onednn(),
        "TensorFlow's own matrix products are slower than the processor's.",
        "Matrix products run at the rate of one large product in NumPy, all else stays.",
        missed="The step's products are small ones: oneDNN computes them, too, at less than the rate of one large product.",
    ),
    "decoded cache, 256 px": Gain(
        lambda folder: gains_running.cache(folder, 4),
        "A JPEG is the same every time that it is decoded.",
        "The time in which images are decoded goes away, all else stays.", (5, None),
        "Little is left beside decoding: starting a data set, most of all, whose time by the clock is more than the processor's.",
    ),
    "reading ahead, small_cnn 32 px": Gain(
        lambda folder: gains_running.ahead(folder, 6),
        "While a batch is read, the step waits and leaves cores without work.",
        "The longer of: the first batch's reading and all steps; the processor time of both, shared by all cores.", (4, None),
        threads=True,
    ),
}  # fmt: skip


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=tuple(GAINS), metavar="GAIN", help=", ".join(GAINS))
    parser.add_argument("--out", help="write the lines there instead")
    args = parser.parse_args(argv)
    for name, gain in GAINS.items():
        rounds = gain.rounds[args.quick] or (args.only and gain.rounds[0])
        if not rounds or args.only not in (None, name):
            continue
        if (gain.threads or gain.memory) and not args.only:
            elsewhere(name, args)
        else:
            if not gain.threads:
                one_thread()
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                line = measure(name, gain, rounds, Path(folder))
            renew("profiles" + "_quick" * args.quick, [line], KEYS, args.out)
            print(said(line), flush=True)


def elsewhere(name, args):
    """The line of a gain from a process of its own."""
    options = ["--only", name, *["--quick"] * args.quick, *(["--out", args.out] if args.out else [])]
    subprocess.run([sys.executable, str(Path(__file__).resolve()), *options], check=True)


def measure(name, gain, rounds, folder):
    """The line of a gain."""
    with gain.pair(folder) as pair:
        found = memory(pair) if gain.memory else times(pair, rounds)
    told = {"probe": "memory" if gain.memory else "time", "gain_of": name} | found
    return told | pair.more | {"reason": gain.reason, "formula": gain.formula}


def times(pair, rounds):
    """Milliseconds of both ways, and the profiles that go with them."""
    before = pair.profile(pair.before)
    expected = pair.predict(before)
    predicted = before.ms / sum(expected.values())  # now it stands: the way with the gain has not been timed
    seconds = turns({"before": pair.before, "after": pair.after}, rounds, clock=pair.clock)
    after = pair.profile(pair.after)
    gain = seconds["before"] / seconds["after"]
    return {
        "before_ms": short(1e3 * seconds["before"]), "predicted_ms": short(1e3 * seconds["before"] / predicted),
        "after_ms": short(1e3 * seconds["after"]), "predicted_gain": short(predicted, 3), "gain": short(gain, 3),
        "met": near(predicted, gain), "operations_before": sum(before.launches.values()),
        "operations_after": sum(after.launches.values()), "before": shares(before.parts), "expected": shares(expected),
        "after": shares(after.parts),
    }  # fmt: skip


def memory(pair):
    """MB that both ways have allocated when they have most."""
    for function in (pair.before, pair.after):
        function()
    alive = list(alive_at_peak(recorded(pair.before)).values())
    predicted = sum(pair.predict(alive).values())
    after = list(alive_at_peak(recorded(pair.after)).values())
    before_mb, after_mb = sum(alive) / 2**20, sum(after) / 2**20
    return {
        "before_mb": short(before_mb), "predicted_mb": short(predicted), "after_mb": short(after_mb),
        "predicted_gain": short(before_mb / predicted, 3), "gain": short(before_mb / after_mb, 3),
        "met": near(before_mb / predicted, before_mb / after_mb), "before": largest(alive), "after": largest(after),
    }  # fmt: skip


def near(predicted, found):
    """Whether a prediction is met."""
    return bool(1 / NEAR <= predicted / found <= NEAR)


def shares(parts, count=5):
    """{part: ms} of the largest parts, the largest first."""
    return {name: short(ms, 3) for name, ms in sorted(parts.items(), key=lambda item: -item[1])[:count] if ms > 0}


def largest(alive, count=5):
    """{"number x MB": MB together} of the largest pieces of memory."""
    found = {size: alive.count(size) for size in sorted(set(alive), reverse=True)[:count]}
    return {f"{times} x {short(size / 2**20, 3):g} MB": short(times * size / 2**20) for size, times in found.items()}


def said(line):
    """A line for the terminal."""
    unit = "mb" if line["probe"] == "memory" else "ms"
    values = ", ".join(f"{when} {line[f'{when}_{unit}']:g}" for when in ("before", "predicted", "after"))
    return (f"{line['gain_of']}: {values} {unit.upper() if unit == 'mb' else unit}; gain predicted {line['predicted_gain']:g}, "
            f"found {line['gain']:g}{'' if line['met'] else ' (missed)'}")  # fmt: skip


def draw(lines, path):
    """Before, predicted and after of each gain as shares of before."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    colours = {"before": "#b8bfcc", "predicted": "#dd8452", "after": "#4c72b0"}
    figure, axes = pyplot.subplots(figsize=(9, 0.9 + 0.72 * len(lines)), layout="constrained")
    for place, line in enumerate(lines):
        unit = "mb" if line["probe"] == "memory" else "ms"
        values = {when: line[f"{when}_{unit}"] for when in colours}
        for row, (when, value) in enumerate(values.items()):
            share, at = value / values["before"], place + 0.26 * (row - 1)
            axes.barh(at, share, color=colours[when], height=0.24, label=when if not place else None)
            more = f"  (gain {values['before'] / value:.3g})" if row else ""
            axes.annotate(f"{cell(value)} {unit if unit == 'ms' else 'MB'}{more}", (share, at), xytext=(4, 0),
                          textcoords="offset points", va="center", size=8)  # fmt: skip
    axes.set_yticks(range(len(lines)), [line["gain_of"].replace(", ", "\n", 1) for line in lines], size=9)
    axes.invert_yaxis()
    widest = max(max(1.0, 1 / line["gain"], 1 / line["predicted_gain"]) for line in lines)
    axes.set_xlim(0, 1.3 * widest)
    axes.set_xlabel("share of the time or memory without the gain", size=9)
    axes.tick_params(axis="x", labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
