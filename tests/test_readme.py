"""README.md says what is so: its figures are the committed results, its commands and options exist."""

import json
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

from isra_keras.cli import VERBS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SEED1 = ROOT / "benchmarks" / "results" / "glyphs_seed1"  # the sentence and this go when the seed is in the table


def test_table_of_glyphs_is_the_committed_one():
    lines = (ROOT / "benchmarks" / "results" / "glyphs_variants.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if re.match(r"\| (source only|BA3US|ISRA)", line)]
    assert len(rows) == 8  # four label-free, four of the upper bound
    for row in rows[:4]:
        assert row in README, row


def results(title):
    """{method: {column: cell}} of a table of RESULTS.md."""
    rows = (ROOT / "RESULTS.md").read_text(encoding="utf-8").split(f"\n**{title}**\n\n")[1].split("\n\n")[0].splitlines()
    head, _, *body = ([cell.strip().strip("*") for cell in row.strip("|").split("|")] for row in rows)
    return {cells[0]: dict(zip(head, cells)) for cells in body}


def test_table_of_methods_is_that_of_the_results():
    def rounded(cell, sign=""):
        return f"{Decimal(cell.split()[0]).quantize(Decimal('0.1'), ROUND_HALF_UP):{sign}}"

    sides = [(results("pacs_features: label-free selection"), results("pacs_features: ISRA against without, the same bottleneck")),
             (results("office_caltech10_features: label-free selection"),
              results("office_caltech10_features: ISRA against without, label-free selection"))]  # fmt: skip
    methods = [name for name in sides[0][0] if "ISRA" not in name]
    assert len(methods) >= 14
    for name in methods:
        cells = [name]
        for plain, paired in sides:
            gain = paired[f"{name} + ISRA (reference)"]
            cells += [rounded(plain[name]["Avg"]), rounded(gain["all"], "+"), gain["p (Wilcoxon)"]]
        assert f"| {' | '.join(cells)} |" in README
    votes = [results(f"{name}: models voting together") for name in ("pacs_features", "office_caltech10_features")]
    own = tuple(rounded(vote["Vote of those without ISRA"]["mean accuracy"]) for vote in votes)
    assert f"**{own[0]}** | | | **{own[1]}**" in README


def test_sentences_on_the_embedded_data_and_on_all_are_those_of_the_results():
    text, rounded = " ".join(README.split()), lambda cell: f"{Decimal(cell.split()[0]).quantize(Decimal('0.1'), ROUND_HALF_UP)}"
    plain, votes = results("glyphs: label-free selection"), results("glyphs: models voting together")
    guarded, overall = results("glyphs: the guard of `train`"), results("all data sets: models voting together")
    gains = {name: row["all"] for name, row in results("glyphs: ISRA against without, label-free selection").items()}
    vote = votes["Vote of all models"]
    assert Decimal(vote["worst against source only, last"]) > 0
    averages = {name: row["Avg"] for name, row in plain.items() if row["Avg"] != "–"}
    best = sorted(averages, key=lambda name: float(averages[name]))[-2:]
    assert best == ["SHOT", "SHOT + ISRA (paper)"]
    assert (f"The vote has {rounded(vote['mean accuracy'])} and is nowhere below source only ({rounded(plain['Source only']['Avg'])}); "
            f"the best single models are SHOT + ISRA ({rounded(averages[best[1]])}) and SHOT ({rounded(averages[best[0]])}).") in text
    ours, pada, afn = (rounded(gains[f"{name} + ISRA (paper)"].lstrip("+-")) for name in ("BA3US", "PADA", "AFN"))
    assert f"gives BA3US {ours} (p 0.06) and costs PADA {pada} and AFN {afn} (p 0.03 each)" in text
    off, on = ([json.loads(row)["selected"]["accuracy"] for row in (SEED1 / f"ba3us-{isra}.jsonl").read_text().splitlines()]
               for isra in ("off", "paper"))  # fmt: skip
    assert len(off) == len(on) == 6
    assert f"have it cost {100 * (sum(off) - sum(on)) / 6:.1f}, so take no sign from one seed" in text
    weak = [float(averages[name]) for name in ("DRCN", "DANN", "MWPDA")]
    assert f"collapse there ({min(weak):.1f} to {max(weak):.1f})" in text
    low = [rounded(averages[name]) for name in ("A2KT", "SLM")]
    assert max(map(float, low)) < float(averages["Source only"])
    assert f"A2KT ({low[0]}) and SLM ({low[1]}) stay below source only" in text
    assert f"would bring DRCN to {rounded(guarded['DRCN']['with the guard'])}" in text
    singles = [float(row["mean accuracy"]) for name, row in overall.items() if "ote of all" not in name]
    everything, etn = (rounded(overall[name]["mean accuracy"]) for name in ("Vote of all models", "ETN"))
    assert float(overall["ETN"]["mean accuracy"]) == max(singles)
    below = [rounded(overall["Vote of all models"][f"worst against source only, {which}"].lstrip("-")) for which in ("last", "selected")]
    assert f"{everything}, at most {below[0]} below source only ({below[1]}); the best single method (ETN) {etn}" in text


@pytest.mark.slow
def test_results_are_what_their_own_command_makes(tmp_path, monkeypatch):
    from isra_keras.benchmark import main

    text = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    command = next(line for line in text.splitlines() if line.startswith("python -m isra_keras.benchmark --report"))
    monkeypatch.chdir(ROOT)
    main([*command.split()[3:-1], str(tmp_path / "RESULTS.md")])
    made = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert made.replace(str(tmp_path / "RESULTS.md"), "RESULTS.md") == text


def test_commands_exist():
    named = set(re.findall(r"python -m isra_keras\.(\w+)", README))
    assert {"train", "evaluate", "predict", "doctor", "benchmark", "analyze"} <= named
    assert {verb for verb in named if verb not in VERBS} <= {"tuning"}


def test_options_exist(capsys):
    from isra_keras.train import build_parser

    known = {option for action in build_parser()._actions for option in action.option_strings}
    commands = re.findall(r"python -m isra_keras\.train ([^\n`#]*)", README)
    assert commands
    for option in re.findall(r"--[\w-]+", " ".join(commands)):
        assert option in known, option


def test_an_exported_network_is_the_same_network(tmp_path):
    import numpy as np
    import tensorflow as tf

    from isra_keras import build_network, load_run

    assert 'load_run("runs/short")' in README and 'network.export("runs/short/saved_model")' in README
    build_network("small_cnn", 3, 8, (32, 32, 3), "none").save(tmp_path / "model.keras")
    (tmp_path / "model.json").write_text('{"class_names": ["a", "b", "c"]}', encoding="utf-8")
    network, _ = load_run(tmp_path)
    network.export(str(tmp_path / "saved_model"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved_model"))
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    found, wanted = served.serve(images), network.predict_on_batch(images)
    assert set(found) == {"logits", "features", "pooled"}
    assert all(np.allclose(found[name], wanted[name], atol=1e-5) for name in wanted)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:src=\"|\]\()([\w./-]+)", README))))
def test_linked_files_exist(path):
    assert (ROOT / path).exists()
