"""`python -m isra_keras.doctor`: what is installed, which devices, which datasets are found and complete."""

import argparse
import json
import os
import platform
import shutil
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from isra_keras.cli import run as run_cli
from isra_keras.errors import UserError

CORE = (
    "keras",
    "tensorflow",
    "tensorflow-datasets",
    "numpy",
    "h5py",
    "scipy",
    "scikit-learn",
    "threadpoolctl",
    "pillow",
    "filelock",
    "matplotlib",
    "rich",
    "tensorboard",
)
EXTRAS = {"keras-hub": "hub", "keras-tuner": "tuning", "gradio": "app", "pytest": "dev"}
PYTHONS = ((3, 11), (3, 13))
LOW_MEMORY, LOW_DISK = 2 * 2**30, 2 * 2**30


def build_parser():
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m isra_keras.doctor",
        description="Looks at installation, devices and datasets; exit code 1 if something needed is missing.",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="where the datasets are")
    parser.add_argument("--dataset", action="append", metavar="NAME", help="only this dataset (may be repeated)")
    parser.add_argument("--no-devices", action="store_true", help="do not start TensorFlow")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def main(argv=None):
    """Runs the command; returns 0, or 1 if something that training needs is missing."""
    args = build_parser().parse_args(argv)
    report = {
        "python": check_python(),
        "packages": check_packages(),
        "resources": check_resources(),
        "devices": [] if args.no_devices else check_devices(),
        "datasets": check_datasets(args.data_dir, args.dataset),
    }
    asked = report["datasets"] if args.dataset else []  # of all datasets nobody needs each
    needed = [report["python"], *report["packages"], *report["devices"], *asked]
    report["healthy"] = all(row["status"] != "missing" for row in needed)
    print(json.dumps(report, indent=2)) if args.json else _show(report)
    return 0 if report["healthy"] else 1


def _row(name, status, detail):
    """status: "ok", "note" (works, but look) or "missing" (what was asked for can't be done)."""
    return {"name": name, "status": status, "detail": detail}


def check_python():
    """The interpreter against the versions that are tested."""
    version = sys.version_info[:2]
    status = "ok" if PYTHONS[0] <= version <= PYTHONS[1] else "note" if version > PYTHONS[1] else "missing"
    wish = (
        "" if status == "ok" else f"; tested with {'.'.join(map(str, PYTHONS[0]))} to {'.'.join(map(str, PYTHONS[1]))}"
    )
    return _row("python", status, f"{platform.python_version()} on {platform.system()} {platform.machine()}{wish}")


def check_packages():
    """Versions of what the core and the extras need."""
    rows = []
    for name in CORE:
        version = _version(name)
        rows.append(_row(name, "ok" if version else "missing", version or f"not installed: pip install {name}"))
    for name, extra in EXTRAS.items():
        version = _version(name)
        wish = f"not installed, optional: pip install -e '.[{extra}]'"
        rows.append(_row(name, "ok" if version else "note", version or wish))
    return rows


def check_resources():
    """Free memory and disk, processors."""
    disk = shutil.disk_usage(Path.cwd()).free
    memory = _free_memory()
    rows = [_row("processors", "ok", str(_processors()))]
    if memory is not None:
        rows.append(_row("free memory", "ok" if memory >= LOW_MEMORY else "note", _bytes(memory)))
    rows.append(_row("free disk here", "ok" if disk >= LOW_DISK else "note", _bytes(disk)))
    return rows


def check_devices():
    """The devices that TensorFlow sees; starts it."""
    if find_spec("tensorflow") is None:
        return [_row("devices", "missing", "TensorFlow is not installed")]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow as tf

        rows = []
        for device in tf.config.list_physical_devices():
            details = tf.config.experimental.get_device_details(device)
            name = details.get("device_name") or platform.processor() or platform.machine()
            rows.append(_row(device.name.removeprefix("/physical_device:"), "ok", name))
    except Exception as error:  # a broken installation raises whatever it likes; that is what the doctor is for
        return [_row("devices", "missing", f"TensorFlow does not start: {_first_line(error)}")]
    if not any(row["name"].startswith("GPU") for row in rows):
        rows.append(
            _row(
                "GPU", "note", "none; ResNet-50 takes seconds a step on a CPU. With one: pip install -e '.[gpu]'"
            )
        )
    return rows


def check_datasets(data_dir=None, only=None):
    """Every dataset: where it was found and whether its counts match the protocol.

    Args:
        data_dir: where to look; None looks where `train` would.
        only: names, None for all.

    Returns:
        list of rows; "missing" says what was not found, "note" that something is incomplete.
    """
    try:
        from isra_keras.data import tasks
        from isra_keras.data.protocols import choose
    except ImportError as error:
        return [_row("datasets", "missing", f"can't be looked at: {_first_line(error)}")]
    names = [choose(name, list(tasks.DATASETS), "dataset") for name in only or tasks.DATASETS]
    return [_row(name, *_inspect(tasks, name, data_dir)) for name in names]


def _inspect(tasks, name, data_dir):
    """(status, detail) of a dataset: every domain as source and as target of the one before it."""
    from isra_keras.data.image_folder import summary

    domains = tasks.domain_names(name)
    counts, bad, places = {}, {}, []
    for source, target in zip(domains, domains[1:] + domains[:1]):
        try:
            task = tasks.load_task(name, source, target, data_dir=data_dir)
        except UserError as error:
            return "missing" if not counts else "note", str(error)
        counts[source] = len(task.source) + len(task.source.bad_images)
        bad |= {item.path: item for domain in (task.source, task.target) for item in domain.bad_images}
        if task.source.paths:
            places += [task.source.paths[0], task.source.paths[-1]]
    found = ", ".join(f"{domain} {count:,}" for domain, count in counts.items())
    place = f" · {os.path.commonpath(places)}" if places else ""
    if bad:  # they are counted, and training passes over them
        return "note", f"counts match: {found}{place}; but {summary(tuple(bad.values()))}. Copy the dataset anew."
    return "ok", f"counts match: {found}{place}"


def _show(report):
    """Tables for people."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "missing": "[red]missing[/]"}
    console = Console()
    sections = {
        "Installation": [report["python"], *report["packages"]],
        "Machine": [*report["resources"], *report["devices"]],
        "Datasets": report["datasets"],
    }
    for title, rows in sections.items():
        table = Table(title=title, title_justify="left", expand=False)
        for overflow in ("ellipsis", "ellipsis", "fold"):  # what is to be downloaded is never cut
            table.add_column("", overflow=overflow)
        table.show_header = False
        for row in rows:
            table.add_row(Text(row["name"]), marks[row["status"]], Text(row["detail"]))
        console.print(table)
    console.print("Ready to train." if report["healthy"] else "[red]Not ready[/]: see the rows marked missing.")


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return {"tensorflow": lambda: _version("tensorflow-cpu")}.get(name, lambda: None)()


def _processors():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _free_memory():
    """Bytes that a new process can have (Linux), None elsewhere."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _bytes(count):
    return f"{count / 2**30:.1f} GiB"


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


if __name__ == "__main__":
    sys.exit(run_cli(main))
