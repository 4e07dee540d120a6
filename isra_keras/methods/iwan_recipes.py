"""What IWAN is trained with: TLLib's values by dataset; "paper" has those of the authors' Caffe code."""

PARTS = ("discriminator_weight", "discriminator_adversarial")
_BASE = {
    "learning_rate": 1e-4,  # of the backbone; TLLib's lr is that of the heads, ten times as much
    "schedule": {"gamma": 1e-3, "power": 0.75, "period": 1.0, "clamp": None},
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 1e-3,
    "batch_size": 36,
    "iterations": 5000,
    "eval_interval": 500,
    "multipliers": {part: (10.0, 1.0) for part in ("bottleneck", "classifier", *PARTS)} | {"backbone": (1.0, 1.0)},
    "options": {},
    "source_sampling": "shuffle",
}
_TLLIB = _BASE | {"iterations": 10000, "eval_interval": 1000, "options": {"ramp_iterations": 10000}}
_CAFFE = {"learning_rate": 3e-4, "nesterov": False, "weight_decay": 0.0, "batch_size": 64, "iterations": 62500}
RECIPES = {
    "default": _BASE,
    "office_home": _TLLIB | {"iterations": 30000},
    "office31": _TLLIB | {"learning_rate": 3e-5},
    "imagenet_caltech": _TLLIB
    | {"tasks": {"I-C": {"network_options": {"bottleneck": "none"}}, "C-I": {"feature_dim": 2048}}},
    "paper": _TLLIB | _CAFFE | {"options": {"variant": "paper", "ramp_iterations": 10000}},
}
