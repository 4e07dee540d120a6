"""What protects a run from its own adaptation: signals of collapse at every evaluation, and what may be kept."""

from isra_keras.selection import NEEDS_SOURCE
from isra_keras.selection.collapse import FRESH_LIMITS, CollapseWatch
from isra_keras.training.recipes import is_fresh

KNOWS_SOURCE = 0.7
"""Accuracy on the source from which on a network that started from nothing has a model to go back to."""


class Guarded:
    """The part of `Training` that judges evaluations; it needs nothing but the target's predictions.

    A network that started from nothing is held to `FRESH_LIMITS`, since a sound adaptation leaves the predictions of so weak a
    model behind, and only where that one, trained on source labels alone, is right on `KNOWS_SOURCE` of the source.
    """

    @property
    def fresh(self):
        """Whether the network learns images from nothing."""
        return self.task.kind == "images" and is_fresh(self.config.backbone, self.config.weights)

    def make_watch(self, reference=None):
        """`CollapseWatch` with the limits that fit the network."""
        return CollapseWatch(reference, limits=FRESH_LIMITS if self.fresh else None)

    def check_collapse(self, logits, weights):
        """{name: signal} of this evaluation against the last one before adaptation began; warns once.

        That is the last of a stage on source labels alone, a warm-up's or the method's own; without such a stage (SLM's warm
        start adapts) it is the first of all, and only what happens after it is noticed. There is no warning from source only,
        which does not adapt.
        """
        self.watch.warn = self.progress.message if self.can_collapse() else None
        if self.before_adaptation:
            self.watch.reference = None
        first = self.watch.reference is None
        signals = self.watch.check(self.step, logits, weights)
        if first:
            self.checkpoints.save_reference(self.step, self.watch.reference)
        return signals

    @property
    def adapts(self):
        """Whether the run learns from more than source labels; plain source only never does, whatever warm-up it has."""
        plain = self.config.method == "source_only" and not self.config.semantic
        return not plain and (len(self.stages) > 1 or not self.model.method.starts_on_source)

    def can_collapse(self):
        """Whether the signals mean something: the run adapts, and from a source model that is worth keeping."""
        return self.adapts and (not self.fresh or self.knows_source())

    def knows_source(self):
        """Whether the last model before adaptation is right on `KNOWS_SOURCE` of the source."""
        names = {stage.name for stage in self.stages[:-1] if stage.source_only}
        found = [entry["scores"].get("source_accuracy") for entry in self.history if entry["stage"] in names]
        return bool(found) and (found[-1] or 0.0) >= KNOWS_SOURCE

    def guards(self):
        """Whether collapsed evaluations come last."""
        return self.config.guard and not self.config.reference_quirks and self.can_collapse()

    @property
    def at_last_before_adaptation(self):
        """Whether this is the step from which on it adapts."""
        # A warm-up may be followed by a source stage of the method's own, IWAN's.
        last = self.before_adaptation and not self.stages[self.stage + 1].source_only
        return last and self.local == self.lengths[self.stage]

    def may_be_kept(self):
        """Whether this evaluation may be selected: those of the final stage, and the last before adaptation as a refuge."""
        return self.in_final_stage or (self.at_last_before_adaptation and self.guards())

    def needs_source(self):
        """Whether this evaluation predicts the source as well."""
        guarded = self.config.guard and not self.config.reference_quirks and self.at_last_before_adaptation
        judged = self.fresh and guarded and self.adapts
        return judged or self.model.method.needs_source_evaluation or self.config.select in NEEDS_SOURCE
