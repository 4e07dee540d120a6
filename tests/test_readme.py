"""README.md says what is so: its figures are the committed results, its commands and options exist."""

import json
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

from isra_keras.cli import VERBS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GLYPHS = ROOT / "benchmarks" / "results" / "glyphs"


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
    worst = [float(vote["Vote of those without ISRA"][f"worst against source only, {which}"]) for vote in votes
             for which in ("last", "selected")]  # fmt: skip
    assert min(worst) > -0.3 and "is in none of the 72 cases more than 0.3 points below source only." in " ".join(README.split())
    above = [[name for name in methods if float(plain[name]["Avg"].split()[0]) > float(vote["Vote of those without ISRA"]["mean accuracy"])]
             for (plain, _), vote in zip(sides, votes)]  # fmt: skip
    assert above == [[], ["BA3US", "SAN", "ETN"]]
    nearest = [results(f"{name}: models voting together")["The one that agrees most with the vote"]
               for name in ("pacs_features", "office_caltech10_features", "glyphs")]  # fmt: skip
    below = [rounded(str(-min(float(row[f"worst against source only, {which}"]) for which in ("last", "selected")))) for row in nearest]
    assert (f"it has {rounded(nearest[0]['mean accuracy'])} on PACS and is at most {below[0]} below there, {below[1]} on "
            f"Office-Caltech10, but {below[2]} on the embedded data.") in " ".join(README.split())


def test_sentences_on_the_embedded_data_and_on_all_are_those_of_the_results():
    text, rounded = " ".join(README.split()), lambda cell: f"{Decimal(cell.split()[0]).quantize(Decimal('0.1'), ROUND_HALF_UP)}"
    plain, votes = results("glyphs: label-free selection"), results("glyphs: models voting together")
    guarded, overall = results("glyphs: the guard of `train`"), results("all data sets: models voting together")
    rows = results("glyphs: ISRA against without, label-free selection")
    vote = votes["Vote"]
    worst = [rounded(vote[f"worst against source only, {which}"].lstrip("-")) for which in ("last", "selected")]
    assert worst[0] == worst[1]
    averages = {name: row["Avg"].split()[0] for name, row in plain.items() if row["Avg"] != "–"}
    best = sorted(averages, key=lambda name: float(averages[name]))[-2:]
    assert best == ["SAN", "SAN + ISRA (paper)"]
    assert (f"The vote has {rounded(vote['mean accuracy'])} and is at most {worst[0]} below source only "
            f"({rounded(plain['Source only']['Avg'])}); "
            f"the best single models are SAN + ISRA ({rounded(averages[best[1]])}) and SAN ({rounded(averages[best[0]])}).") in text
    def of(name):
        row = rows[f"{name} + ISRA (paper)"]
        return rounded(row["all"].lstrip("+-")), row["p (Wilcoxon)"]

    told = ("Source only", "PADA", "AFN", "MWPDA", "DANN")
    (source, p_source), (pada, p_pada), (afn, p_afn), (mwpda, p_mwpda), (dann, p_dann) = map(of, told)
    assert (f"costs source only {source}, PADA {pada} and AFN {afn} (p {p_source}, {p_pada} and {p_afn}) and gives MWPDA {mwpda} and "
            f"DANN {dann} (p {p_mwpda} and {p_dann})") in text
    others = [float(row["p (Wilcoxon)"]) for name, row in rows.items() if name.removesuffix(" + ISRA (paper)") not in told]
    assert len(others) == 9 and min(others) > 0.2
    off, on = ([json.loads(row) for row in (GLYPHS / f"ba3us-{isra}.jsonl").read_text().splitlines()] for isra in ("off", "paper"))
    by_seed = [sum(100 * sign * line["selected"]["accuracy"] for sign, lines in ((1, on), (-1, off)) for line in lines
                   if line["cell"]["seed"] == seed) / 6 for seed in (0, 1, 2)]  # fmt: skip
    assert len(off) == len(on) == 18
    assert (f"BA3US gains {by_seed[0]:.1f} by ISRA on the first, loses {-by_seed[1]:.1f} on the second and gains {by_seed[2]:.1f} "
            "on the third") in text
    weak = {name: float(averages[name]) for name in ("MWPDA", "DRCN", "A2KT", "DANN", "SLM")}
    lowest = sorted((name for name in averages if "ISRA" not in name), key=lambda name: float(averages[name]))[:5]
    assert sorted(weak) == sorted(lowest) and max(weak.values()) < 0.6 * float(averages["Source only"])
    assert f"{', '.join(list(weak)[:-1])} and SLM stay far below source only ({min(weak.values()):.1f} to {max(weak.values()):.1f})" in text
    assert (f"would bring DRCN to {rounded(guarded['DRCN']['with the guard'])} and SLM to {rounded(guarded['SLM']['with the guard'])}, "
            f"and costs one of {guarded['all']['runs']} runs {rounded(guarded['all']['largest loss'].lstrip('-'))} points") in text
    assert [name for name, row in guarded.items() if float(row["largest loss"])] == ["IWAN", "all"]
    singles = [float(row["mean accuracy"]) for name, row in overall.items() if "ote" not in name]
    everything, etn = (rounded(overall[name]["mean accuracy"]) for name in ("Vote", "ETN"))
    assert float(overall["ETN"]["mean accuracy"]) == max(singles)
    below = [rounded(overall["Vote"][f"worst against source only, {which}"].lstrip("-")) for which in ("last", "selected")]
    assert below[0] == below[1] and f"{everything}, at most {below[0]} below source only; the best single method (ETN) {etn}" in text
    every = overall["Vote of all that look sound, most votes alone"]
    assert (f"{rounded(every['mean accuracy'])}, but {rounded(every['worst against source only, last'].lstrip('-'))} below in one case"
            ) in text and every["pairs more than 2 points below it"] == "1"  # fmt: skip
    photos = results("office_caltech10 (batch_size 16, crop_size 96, eval_interval 60, image_size 112, iterations 120, weights "
                     '"mobilenetv2_1.0_224_imagenet_notop.weights.h5"): models voting together')  # fmt: skip
    five, nine, nearest = (rounded(photos[name]["mean accuracy"]) for name in (
        "Vote of those without ISRA", "Vote", "The one that agrees most with the vote"))  # fmt: skip
    assert f"The vote of these five has {five}, below SAN alone, with ISRA's four {nine}, the model nearest to that {nearest};" in text
    assert all(float(row["worst against source only, last"]) >= 0 for row in photos.values())


def test_ways_to_vote_are_those_of_the_committed_lines():
    """The way that was taken has the numbers of RESULTS.md; README counts the ways."""
    text = (ROOT / "benchmarks" / "results" / "voting_rules.md").read_text(encoding="utf-8")
    for name in ("pacs_features", "office_caltech10_features", "glyphs"):
        rows = text.split(f"**{name}, ")[1].split("\n\n")[1].splitlines()[2:]
        assert len(rows) == 16 and "[sixteen ways]" in README
        (own,) = ([cell.strip("* ") for cell in row.split("|")[3:]] for row in rows if row.startswith("| half, source only | a third |"))
        vote = results(f"{name}: models voting together")["Vote"]
        assert [own[0], own[1], own[3]] == [vote["mean accuracy"], *(vote[f"worst against source only, {which}"]
                                                                     for which in ("last", "selected"))]  # fmt: skip


def test_the_six_of_the_command_are_those_that_were_measured():
    text = (ROOT / "benchmarks" / "results" / "voting_rules.md").read_text(encoding="utf-8").split("**six methods: ")[1]
    assert f"--methods {text.split('**')[0].replace(', ', ',')} --semantic off" in README
    pacs, office, glyphs = ([cell.strip() for cell in row.split("|")[3:-1]] for row in text.strip().splitlines()[4:])
    worst = min(float(glyphs[place]) for place in (1, 3))
    assert f"six are too few: on the embedded data it is up to {-worst:.1f} below" in " ".join(README.split())
    rounded = [f"{Decimal(row[0]).quantize(Decimal('0.1'), ROUND_HALF_UP)}" for row in (pacs, office)]
    assert (f"that vote has {rounded[0]} (PACS) and {rounded[1]} (Office-Caltech10), at most 1.1 points below source only."
            ) in " ".join(README.split()) and min(float(row[place]) for row in (pacs, office) for place in (1, 3)) == -1.09  # fmt: skip


def test_what_attention_maps_point_at_is_what_was_measured():
    text = " ".join((ROOT / "benchmarks" / "EXPLORATION.md").read_text(encoding="utf-8").split())

    def rounded(value, places="0.01"):
        return f"{Decimal(str(value)).quantize(Decimal(places), ROUND_HALF_UP)}"

    def cell(areas):
        beaten = f", {rounded(100 * areas['beats_random'], '1')} %" if areas["beats_random"] else ""
        return f"{', '.join(rounded(areas[kind][0], '0.001') for kind in ('deletion', 'insertion'))}{beaten}"

    lines = (ROOT / "benchmarks" / "results" / "attention.jsonl").read_text(encoding="utf-8").splitlines()
    photos, glyphs = map(json.loads, lines)
    for name, line in (("Office-Caltech10 C-A", photos), ("glyphs", glyphs)):
        cells = [cell(line["areas"][kind]) for kind in ("gradcam", "topics", "strongest topic", "random")]
        assert f"| {' | '.join([name, *cells])} |" in text
    for part in ("backbone", "heads"):
        after = [line["correlation_after_shuffling"][part] for line in (photos, glyphs)]
        topics, cams = ([rounded(one[kind]) for one in after] for kind in ("topics", "gradcam"))
        assert f"topics {' and '.join(topics)}, Grad-CAM {' and '.join(cams)}" in text


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
