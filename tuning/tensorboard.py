"""The trials for TensorBoard's HParams plugin: `tensorboard --logdir OUT/tensorboard`."""

from pathlib import Path

from tuning.records import read_rows


class HParamsLog:
    """Writes a run of HParams for every trial that ends, then passes the news on to the table.

    Args:
        folder: search folder; events go to its tensorboard/.
        space: tuple of `Parameter`.
        objective: `SearchObjective`.
        view: object with `trial_began` and `trial_ended`.
    """

    def __init__(self, folder, space, objective, view):
        self.folder, self.space, self.objective, self.view = Path(folder), space, objective, view

    def trial_began(self, trial):
        self.view.trial_began(trial)

    def trial_ended(self, trial):
        row = next((row for row in read_rows(self.folder) if row.trial_id == trial.trial_id), None)
        if row is not None and row.metrics and row.status == "COMPLETED":
            write_trial(self.folder / "tensorboard", row, self.space, self.objective)
        self.view.trial_ended(trial)


def write_trial(folder, row, space, objective):
    """Hyperparameters, mean scores and the curves of the first seed of one trial.

    Args:
        folder: of all trials' events.
        row: `Row`.
        space, objective: of the search.
    """
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    domains = [api.HParam(item.name, api.Discrete(list(item.values)) if item.values
                          else api.RealInterval(item.low, item.high)) for item in space]  # fmt: skip
    if not Path(folder).exists():
        with tf.summary.create_file_writer(str(folder)).as_default():
            metrics = [api.Metric(name) for name in sorted(row.metrics, key=lambda name: name != objective.name)]
            api.hparams_config(hparams=domains, metrics=metrics)
    with tf.summary.create_file_writer(str(Path(folder) / f"trial_{row.trial_id}")).as_default():
        api.hparams({item.name: row.values[item.name] for item in space}, trial_id=f"trial_{row.trial_id}")
        last = 0
        for entry in row.outcomes[0]["history"]:
            last = entry["step"]
            for name, value in entry.items():
                if name != "step" and value is not None:
                    tf.summary.scalar(f"seed0/{name}", value, step=last)
        for name, value in row.metrics.items():
            tf.summary.scalar(name, value, step=last)
