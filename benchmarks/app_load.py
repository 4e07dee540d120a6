"""The demo under load: many clients at once, each with images of its own, each checked to get its own answer.

    python benchmarks/app_load.py RUN [--clients 50] [--rounds 3] [--out benchmarks/results/app_load.jsonl]

The app runs in a process of its own on this machine; only its address is asked. One JSON line: latencies of the first
answer and of all answers, answers that were wrong, refusals, peak memory of the app, temporary files left.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = Path(__file__).resolve().parent.parent


def build_parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--clients", type=int, default=50, choices=range(1, 201), metavar="1..200")
    parser.add_argument("--rounds", type=int, default=3, choices=range(1, 21), metavar="1..20")
    parser.add_argument("--port", type=int, default=7911)
    parser.add_argument("--side", type=int, default=640, help="pixels of the uploaded JPEGs")
    parser.add_argument("--out", help="append the line to this file as well")
    return parser


def main(argv=None):
    """Starts the app, asks, reports, ends the app."""
    args = build_parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "app", "--run", str(Path(args.run).resolve()), "--port", str(args.port)]
        app = subprocess.Popen([*command, "--no-source-images"], cwd=ROOT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=os.environ | {"TMPDIR": folder})  # fmt: skip
        try:
            line = measure(args, app, Path(folder))
        finally:
            app.terminate()
            app.wait(30)
    print(json.dumps(line))
    if args.out:
        with open(args.out, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return int(bool(line["wrong"] or line["failed"]))


def measure(args, app, folder):
    """The line of results."""
    url = f"http://127.0.0.1:{args.port}/"
    started = time.monotonic()
    first = connect(url, app)
    ready = time.monotonic() - started
    images = make_images(args.clients, args.side, folder)
    expected = expected_classes(args.run, images)
    solo = [ask(first, images[0])[0] for _ in range(6)]
    explain = [explained(first, images[0]) for _ in range(6)]
    idle = memory(app.pid, "VmRSS")
    clients = [connect(url, app) for _ in range(args.clients)]
    answers, barrier = [], threading.Barrier(args.clients)
    threads = [threading.Thread(target=client_rounds, args=(clients[i], images[i], i, args.rounds, barrier, answers))
               for i in range(args.clients)]  # fmt: skip
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    seconds = time.monotonic() - began
    failed = [error for *_, error in answers if error]
    wrong = [1 for index, _, said, error in answers if not error and said != expected[index]]
    times = sorted(seconds for _, seconds, _, error in answers if not error)
    config = json.loads((Path(args.run) / "config.json").read_text(encoding="utf-8"))
    return {
        "backbone": config["backbone"], "pixels": config["crop_size"],
        "topics": config["num_topics"] * config["semantic"],
        "clients": args.clients, "rounds": args.rounds, "answers": len(times), "wrong": len(wrong),
        "failed": len(failed), "failures": sorted(set(failed))[:3], "start_s": round(ready, 1),
        "alone_ms": round(1000 * sorted(solo)[3]), "alone_first_ms": round(1000 * solo[0]),
        "explain_ms": round(1000 * sorted(explain)[3]), "explain_first_ms": round(1000 * explain[0]),
        "p50_s": round(times[len(times) // 2], 2), "p95_s": round(times[int(0.95 * len(times))], 2),
        "answers_per_s": round(len(times) / seconds, 2), "idle_mb": idle, "peak_mb": memory(app.pid, "VmHWM"),
        "different_answers": len(set(expected)),
    }  # fmt: skip


def connect(url, app, limit=120):
    """A client, as soon as the app answers."""
    from gradio_client import Client

    end = time.monotonic() + limit
    while True:
        try:
            return Client(url, verbose=False)
        except Exception:
            if time.monotonic() > end or app.poll() is not None:
                raise
            time.sleep(0.25)


def client_rounds(client, image, index, rounds, barrier, answers):
    """Asks `rounds` times, all clients at the same moment; appends (index, seconds, answer, error)."""
    barrier.wait()
    for _ in range(rounds):
        started = time.monotonic()
        try:
            seconds, said = ask(client, image)
            answers.append((index, seconds, said, ""))
        except Exception as error:
            answers.append((index, time.monotonic() - started, None, str(error)[:120]))


def ask(client, image):
    """(seconds, (class, confidence, name of the file)) of one upload and its prediction."""
    from gradio_client import handle_file

    started = time.monotonic()
    _, _, download = client.predict(handle_file(str(image)), None, 1, api_name="/predict")
    seconds = time.monotonic() - started
    path = download["value"] if isinstance(download, dict) else download
    with open(path, newline="") as file:
        row = next(csv.DictReader(file))
    return seconds, (row["class"], round(float(row["confidence"]), 3), row["file"])


def explained(client, image):
    """Seconds of one explanation with all topics."""
    from gradio_client import handle_file

    started = time.monotonic()
    client.predict(handle_file(str(image)), api_name="/explain")
    return time.monotonic() - started


def make_images(count, side, folder):
    """Different JPEGs: large patches of colour and noise."""
    import numpy as np
    from PIL import Image

    paths = []
    for index in range(count):
        rng = np.random.default_rng(index)
        coarse = Image.fromarray(rng.integers(0, 255, (5, 5, 3), dtype="uint8")).resize((side, side), Image.BICUBIC)
        noise = rng.integers(-20, 20, (side, side, 3))
        path = folder / f"upload_{index:03d}.jpg"
        Image.fromarray(np.clip(np.asarray(coarse, int) + noise, 0, 255).astype("uint8")).save(path)
        paths.append(path)
    return paths


def expected_classes(run, images):
    """What `isra_keras.predict` says of each image, in a process of its own."""
    command = [sys.executable, "-m", "isra_keras.predict", str(run), *map(str, images), "--quiet", "--batch-size", "1"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ).stdout
    rows = csv.DictReader(said.splitlines())
    return [(row["class"], round(float(row["probability"]), 3), Path(row["path"]).name) for row in rows]


def memory(pid, name):
    """MB of a process from /proc: VmRSS now, VmHWM at most; None elsewhere."""
    try:
        found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return None
    return round(int(found.group(1)) / 1024) if found else None


if __name__ == "__main__":
    sys.exit(main())
