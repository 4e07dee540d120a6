"""What the demo answers to every kind of upload of its tests, as a Markdown table.

python benchmarks/bad_uploads.py > benchmarks/results/bad_uploads.md
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.uploads import read_upload  # noqa: E402
from tests.app.bad_uploads import uploads  # noqa: E402


def main():
    """Prints the table."""
    info = {"image_size": 256, "crop_size": 224}
    print("Written by `python benchmarks/bad_uploads.py`.\n")
    print("| file | bytes | answer |\n|---|---:|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, (content, _) in uploads().items():
            path = Path(folder) / name
            path.write_bytes(content)
            upload = read_upload(path, info, (224, 224))
            said = "predicted" if upload.image is not None else upload.reason
            print(f"| {name} | {len(content):,} | {said.replace('|', '/')} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
