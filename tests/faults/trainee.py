"""A process to be killed: `python -m tests.faults.trainee OUT CASE` trains on data in memory and prints each step.

With an existing OUT it resumes; what a user can mend ends it as it ends the command line. CASE is the JSON of {"kind": "features" | "images", "config": {...}}.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(out, text):
    """Runs the case; 0, or 128 + the signal."""
    case = json.loads(text)
    from isra_keras.training.callbacks import RunCallback
    from isra_keras.training.interrupt import Interrupted
    from isra_keras.training.runner import run
    from tests.training import small_task

    class Speaker(RunCallback):
        def on_step(self, step, logs):
            print(f"step {step}", flush=True)

        def on_evaluation(self, entry, model):
            print(f"evaluation {entry['step']}", flush=True)

    images = case["kind"] == "images"
    task = small_task.images_task() if images else small_task.features_task()
    config = (small_task.images_config if images else small_task.features_config)(**case["config"])
    try:
        run(config, out, resume=True, callbacks=[Speaker()], task=task, quiet=True)
    except Interrupted as stopped:
        print(f"stopped {stopped.step}", flush=True)
        return 128 + stopped.signal
    return 0


if __name__ == "__main__":
    from isra_keras.cli import run as run_cli

    sys.exit(run_cli(lambda arguments: main(*arguments), sys.argv[1:]))
