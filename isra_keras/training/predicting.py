"""Predictions of whole domains during a run, shared among the run's processes."""

import numpy as np

from isra_keras.data.pairs import evaluation_dataset, own_threads, plain_errors
from isra_keras.training.build import evaluation_rows


class DomainPredictor:
    """Predicts domains with a model as it stands.

    Args:
        config, task, model, distribution: of the run.
        progress: called with (samples done, samples in all) of this process.
    """

    def __init__(self, config, task, model, distribution, progress):
        self.config, self.task, self.model = config, task, model
        self.distribution, self.progress = distribution, progress
        self.data = {}
        distribution.attach(model)

    def __call__(self, domain):
        """(`Evaluation`, (N,) positions of its rows) of a whole domain, the same in every process.

        All N samples have a row, since methods keep tables by position; `Evaluation.seen` leaves out the unreadable.
        """
        rows = self.distribution.own_share(len(domain))
        indices, done = [], 0

        def watched():
            nonlocal done
            for batch in self._data(domain, rows):
                indices.append(np.asarray(batch["indices"]))
                done += len(indices[-1])
                self.progress(done, rows[1] - rows[0])
                yield batch

        with plain_errors():
            evaluation = self.model.predict_domain(watched())
        return self.distribution.whole(evaluation, np.concatenate(indices), len(domain))

    def _data(self, domain, rows):
        """The domain's data set, made once: TensorFlow keeps what it traced for a data set for ever."""
        if id(domain) not in self.data:
            config = self.config
            size = evaluation_rows(config, self.task)
            data = evaluation_dataset(domain, size, config.image_size, config.crop_size, rows=rows)
            self.data[id(domain)] = own_threads(data)
        return self.data[id(domain)]
