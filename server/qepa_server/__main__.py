"""``python -m qepa_server --config FILE``."""

import argparse
import sys
from pathlib import Path

from .main import run

parser = argparse.ArgumentParser(prog="qepa_server", description="The hospital's server")
parser.add_argument("--config", type=Path, required=True, help="TOML file, see server/README.md")
sys.exit(run(parser.parse_args().config))
