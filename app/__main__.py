import sys

from app.app import main
from isra_keras.cli import run

sys.exit(run(main))
