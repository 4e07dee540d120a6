"""AdaptationModel against five steps of the authors' training loops: isra, ba3us and source only."""

import keras
import numpy as np
import pytest

from isra_keras.methods.ba3us import BA3US
from isra_keras.methods.source_only import SourceOnly
from isra_keras.model import AdaptationModel
from isra_keras.semantic import SemanticAlignment
from isra_keras.training.optimizer import PartwiseSGD
from isra_keras.training.schedules import InverseDecay
from tests.golden_tools import (
    dense_network,
    golden_cases,
    load,
    named_weights,
    relative_error,
    set_discriminator,
    set_semantic,
)  # fmt: skip

pytestmark = pytest.mark.golden
TERMS = {
    "source_ce": "classification", "transfer": "adversarial", "target_entropy": "target_entropy",
    "complement_entropy": "complement_entropy", "reconstruction": "class2vec", "alignment": "alignment",
    "receptor": "receptors",
}  # fmt: skip


def build_ba3us(golden, semantic):
    hyper = {k.removeprefix("hyper/"): float(v) for k, v in golden.items() if k.startswith("hyper/")}
    method = BA3US(
        mu=int(hyper["mu"]), entropy_weight=hyper["ent_weight"], complement_weight=hyper["cot_weight"],
        alpha=hyper["alpha"], discriminator_width=golden["init/discriminator/dense1/kernel"].shape[1], dropout=0.0,
    )  # fmt: skip
    plugin = None
    if semantic:
        topics, _, width = golden["init/receptors/hidden_kernel"].shape
        plugin = SemanticAlignment(
            topics, class2vec_weight=hyper["rcwt"], alignment_weight=hyper["alwt"], receptor_width=width,
            variant="reference", reference_quirks=True,
        )  # fmt: skip
    model = AdaptationModel(
        dense_network(golden), method, plugin, int(hyper["max_iterations"]), int(hyper["test_interval"])
    )
    set_discriminator(method.discriminator, golden, "init/discriminator")
    if semantic:
        set_semantic(plugin, golden, "init/")
    model.compile(PartwiseSGD(InverseDecay(hyper["lr"]), multipliers=model.default_multipliers()))
    return model, hyper


def batch_of(golden, step):
    def part(name):
        x = golden[f"step{step}/{name}_x"]
        batch = {"images": x, "indices": np.arange(len(x), dtype="int32")}
        if f"step{step}/{name}_labels" in golden:
            batch["labels"] = golden[f"step{step}/{name}_labels"]
        return batch

    return {name: part(name) for name in ("source", "target", "middle")}


XLA_TOO = [False, True] if keras.backend.backend() == "tensorflow" else [False]  # JAX compiles in any case


@pytest.mark.parametrize("jit", XLA_TOO, ids=["graph", "xla"][: len(XLA_TOO)])
@pytest.mark.parametrize("kind", ["isra_trajectory", "ba3us_trajectory"])
def test_trajectory(kind, jit):
    for path in golden_cases(kind):
        golden = load(path)
        model, hyper = build_ba3us(golden, semantic=kind == "isra_trajectory")
        model._jit = jit
        initial = {name: v.numpy() for name, v in named_weights(model).items()}
        steps = int(hyper["max_iterations"]) + 1
        for step in range(steps):
            if golden[f"step{step}/target_mean_entropy_at_eval"] >= 0 and (
                step % int(hyper["test_interval"]) == 0 or step == steps - 1
            ):
                model.update(model.predict_domain([{"images": golden["data/target_x"]}]))
            if golden[f"step{step}/has_class_weight"]:
                assert relative_error(model.class_weights, golden[f"step{step}/class_weight"]) < 1e-4
            size = model.method.middle_size(
                step, int(hyper["batch_size"]), int(hyper["max_iterations"]), int(hyper["test_interval"])
            )
            assert size == len(golden[f"step{step}/middle_x"])
            logs = model.train_on(batch_of(golden, step))
            scale = {"target_entropy": hyper["ent_weight"], "complement_entropy": hyper["cot_weight"],
                     "reconstruction": hyper.get("rcwt"), "alignment": hyper.get("alwt")}  # fmt: skip
            for name, term in TERMS.items():
                if f"step{step}/loss/{name}" in golden:
                    expected = golden[f"step{step}/loss/{name}"] * scale.get(name, 1.0)
                    assert relative_error(logs[term], expected) < 1e-4, (step, name)
            assert relative_error(logs["learning_rate"], golden[f"step{step}/lr"]) < 1e-6
            for name, variable in named_weights(model).items():
                change = variable.numpy() - initial[name]
                expected = golden[f"step{step}/after/{name}"] - initial[name]
                assert relative_error(change, expected) < 1e-4, (step, name)


def test_source_only_trajectory():
    for path in golden_cases("source_only_trajectory"):
        golden = load(path)
        model = AdaptationModel(dense_network(golden), SourceOnly(), max_iterations=5)
        rate = InverseDecay(float(golden["lr"]), float(golden["gamma"]), float(golden["power"]))
        model.compile(PartwiseSGD(rate, multipliers=model.default_multipliers()))
        initial = {name: v.numpy() for name, v in named_weights(model).items()}
        for step in range(5):
            x = golden[f"step{step}/x"]
            source = {"images": x, "labels": golden[f"step{step}/labels"], "indices": np.arange(len(x))}
            logs = model.train_on({"source": source, "target": {"images": x, "indices": np.arange(len(x))}})
            assert relative_error(logs["loss"], golden[f"step{step}/loss"]) < 1e-5
            for name, variable in named_weights(model).items():
                expected = golden[f"step{step}/after/{name}"] - initial[name]
                assert relative_error(variable.numpy() - initial[name], expected) < 1e-4, (step, name)
