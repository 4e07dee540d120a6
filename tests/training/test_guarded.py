"""What a run may go back to."""

from types import SimpleNamespace

import pytest

from isra_keras.objective import Stage
from isra_keras.training.guarded import Guarded

WARMUP, SOURCE, ADAPT = (
    Stage("warmup", 0.2, source_only=True),
    Stage("source", 0.3, source_only=True),
    Stage("adapt", 0.5),
)


@pytest.mark.parametrize(
    "stages, wanted",
    [
        ((WARMUP, ADAPT), ["warmup"]),
        ((WARMUP, SOURCE, ADAPT), ["source"]),
        ((WARMUP, ADAPT, ADAPT), ["warmup"]),
        ((ADAPT,), []),
    ],
)
def test_the_refuge_is_the_last_model_before_adaptation(stages, wanted):
    """Of two stages on source labels alone the first one's was kept where it looked better, half trained."""

    def at_last(number):
        before = stages[number].source_only and number < len(stages) - 1  # as `Training.before_adaptation`
        run = SimpleNamespace(stages=stages, stage=number, local=5, lengths=[5] * len(stages), before_adaptation=before)
        return Guarded.at_last_before_adaptation.fget(run)

    assert [stage.name for number, stage in enumerate(stages) if at_last(number)] == wanted
