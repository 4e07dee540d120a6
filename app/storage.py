"""Files of the app: temporary ones that go away by themselves, and flagged images that stay."""

import atexit
import json
import os
import re
import shutil
import stat
import tempfile
import threading
import time
import uuid
from pathlib import Path

from isra_keras.row_output import csv_writer

AGE = 30 * 60  # seconds that an upload or a download is kept
PREFIX, LOCK = "isra_app_", ".lock"
NEW = 60  # seconds in which a folder may be there whose process does not hold its lock yet
MOST_FLAGS = 1000
LEAST_FREE = 2**30  # bytes of the disk that flags leave free


class TemporaryFiles:
    """A folder of this process for uploads and downloads; old files go away while it runs, all of it at the end.

    Folders of processes that were killed go away at the start: a living one holds the lock in its folder.
    Sets GRADIO_TEMP_DIR, so make it before gradio is imported.

    Args:
        age: seconds after which a file is removed.
        pause: seconds between two looks.
    """

    def __init__(self, age=AGE, pause=60.0):
        from filelock import FileLock

        remove_left_behind(tempfile.gettempdir())
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = FileLock(self.folder / LOCK, thread_local=False)
        self._lock.acquire(timeout=0)
        self.age, self.pause, self.kept = age, pause, frozenset()
        os.environ["GRADIO_TEMP_DIR"] = str(self.folder)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="sweeper")
        self._thread.start()
        atexit.register(self.close)

    def _run(self):
        while not self._stop.wait(self.pause):
            self.sweep()

    def keep(self):
        """From now on the files that are here stay to the end: copies of a page's own pictures, which are as old as these."""
        self.kept = frozenset(os.path.join(root, name) for root, _, files in os.walk(self.folder) for name in files)

    def sweep(self):
        """Removes files that are older than `age`, and folders that have been empty for so long; returns how many files."""
        border, removed = time.time() - self.age, 0
        for root, folders, files in os.walk(self.folder, topdown=False):
            for name in files:
                path = os.path.join(root, name)
                try:
                    if path not in self.kept and path != self._lock.lock_file and os.lstat(path).st_mtime < border:
                        os.unlink(path)
                        removed += 1
                except FileNotFoundError:
                    continue
            for name in folders:
                path = os.path.join(root, name)
                try:
                    if os.lstat(path).st_mtime < border:  # a new one is about to be written to
                        os.rmdir(path)
                except OSError:  # not empty
                    continue
        return removed

    def new(self, name):
        """Path of a new file `name` in a folder of its own."""
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir()
        return folder / name

    def close(self):
        """Stops looking and removes the folder."""
        self._stop.set()
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_left_behind(root):
    """Removes folders of this user's apps that were killed; returns how many.

    Args:
        root: the system's folder of temporary files, where anybody may have put anything.
    """
    from filelock import FileLock, Timeout

    removed = 0
    for path in Path(root).glob(f"{PREFIX}*"):
        try:
            about, age = os.lstat(path), time.time() - os.lstat(path / LOCK).st_mtime
            own = not hasattr(os, "getuid") or about.st_uid == os.getuid()
            if not (own and stat.S_ISDIR(about.st_mode) and age > NEW):
                continue
            with FileLock(path / LOCK, timeout=0):
                shutil.rmtree(path)
            removed += 1
        except (OSError, Timeout):  # without a lock, another user's, or in use
            continue
    return removed


def write_csv(path, rows, top_k):
    """Predictions as CSV: file, class, confidence, entropy, note, then the next best classes.

    Cells that a spreadsheet would take for a formula get an apostrophe: file names come from anybody.
    """
    header = ["file", "class", "confidence", "entropy_nats", "note"]
    header += [f"{name}_{rank}" for rank in range(2, top_k + 1) for name in ("class", "confidence")]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv_writer(file)
        writer.writerow(header)
        for row in rows:
            cells = [row["file"], row["class"], _number(row["confidence"]), _number(row["entropy"]), row["note"]]
            for name, probability in row["top"][1:]:
                cells += [name, _number(probability)]
            cells += [""] * (len(header) - len(cells))
            writer.writerow([_harmless(cell) for cell in cells])
    return path


def save_flag(folder, image, right_class, predicted, file_name):
    """Keeps an image with its right class: <folder>/images/<id>.png and a line in <folder>/flags.jsonl.

    Only the pixels that the network saw are kept, written anew, and the upload's name; nothing else of the file.

    Args:
        folder: made if missing.
        image: uint8 (h, w, 3).
        right_class: as the person says.
        predicted: as the network said.
        file_name: shown name of the upload.

    Returns:
        Path of the image; None if enough are kept, or the disk is nearly full: anybody may flag, and nobody removes it.
    """
    from PIL import Image

    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    if len(os.listdir(folder / "images")) >= MOST_FLAGS or shutil.disk_usage(folder).free < LEAST_FREE:
        return None
    path = folder / "images" / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}.png"
    Image.fromarray(image).save(path)
    line = {"image": f"images/{path.name}", "right_class": right_class, "predicted": predicted, "file": file_name}
    with open(folder / "flags.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return path


def _number(value):
    return "" if value is None else round(float(value), 6)


def _harmless(cell):
    text = "" if cell is None else cell
    return "'" + text if isinstance(text, str) and re.match(r"[=+\-@\t\r]", text) else text
