"""Probes of `benchmarks/reliability.py`: the same fault for stock Keras and for this project."""

from benchmarks.reliability_probes import files, images, resume
from benchmarks.reliability_probes.running import Probe

PROBES = {
    "kill": Probe(
        "Killed (SIGKILL) in the middle and resumed; no dropout, stock Keras not shuffling: difference to the "
        "undisturbed run", resume.kill),
    "dropout": Probe("The same with dropout", resume.kill, {"dropout": 0.5}),
    "shuffle": Probe("The same with shuffling", resume.shuffle),
    "asked": Probe("SIGTERM in the middle of an epoch, then resumed", resume.asked),
    "save-freq": Probe("Killed and resumed with a checkpoint every few steps: optimiser steps done", resume.save_freq),
    "overwrite": Probe("A write that fails (file-size limit) while a model file is overwritten", files.overwrite),
    "damaged-model": Probe("A truncated model file; single bytes of it flipped", files.damaged_model),
    "damaged-checkpoint": Probe("A truncated checkpoint, then resume; single bytes of it flipped",
                                files.damaged_checkpoint),
    "html": Probe("A web page named .jpg among the training images", images.html),
    "vanished": Probe("An image that is removed after the folder was listed", images.vanish),
    "deep-png": Probe("16-bit PNG: mean pixel read, largest error of a pixel", images.deep_png),
    "bomb": Probe(f"A small PNG file of {images.SIDE:,} x {images.SIDE:,} pixels: memory on top of the process's own",
                  images.bomb),
    "code": Probe("A model file from elsewhere with code in it", files.code),
    "two-runs": Probe("A second run into the folder of one that is still training", resume.two_runs),
    "nan": Probe("The loss becomes NaN in the middle", resume.not_a_number),
    "learning-rate": Probe("Killed, then resumed with another learning rate (Keras's documentation warns that a backup "
                           "can become invalid)", resume.learning_rate),
    "disk-full": Probe("Disk full (file-size limit) while a checkpoint is written; resumed after space is made",
                       resume.disk_full),
    "long": Probe(f"{resume.LONG:,} steps, a checkpoint every {resume.LONG_SAVES:,}", resume.long),
}  # fmt: skip
