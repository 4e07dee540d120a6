"""The methods by name. A new method is one file here and one line in `METHODS`."""

import importlib

from isra_keras.errors import UserError, did_you_mean

METHODS = {
    "source_only": "source_only:SourceOnly",
    "ba3us": "ba3us:BA3US",
    "drcn": "drcn:DRCN",
    "dann": "dann:DANN",
    "cdan": "cdan:CDAN",
    "afn": "afn:AFN",
    "pada": "pada:PADA",
    "san": "san:SAN",
    "iwan": "iwan:IWAN",
    "shot": "shot:SHOT",
    "etn": "etn:ETN",
    "mwpda": "mwpda:MWPDA",
    "a2kt": "a2kt:A2KT",
    "slm": "slm:SLM",
}


def get_method(name: str) -> type:
    """The `Objective` subclass of a method.

    Args:
        name: key of `METHODS`; case and "-" against "_" do not matter.

    Raises:
        UserError: for an unknown name; lists the valid ones.
    """
    key = name.lower().replace("-", "_")
    if key not in METHODS:
        hint = did_you_mean(name, METHODS)
        raise UserError(f"Expected --method to be one of {', '.join(METHODS)}; received {name!r}.{hint}")
    module, class_name = METHODS[key].split(":")
    return getattr(importlib.import_module(f"isra_keras.methods.{module}"), class_name)
