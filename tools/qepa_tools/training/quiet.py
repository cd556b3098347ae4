"""What TensorFlow says of itself while a model is trained goes to a file, not between the bars."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path


@contextmanager
def library_noise_to(log: Path) -> Iterator[None]:
    """Write to `log` what native code writes to descriptor 2; Python's own standard error stays where it is."""
    from absl import logging  # noqa: PLC0415  # comes with TensorFlow

    logging.set_verbosity(logging.ERROR)
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with log.open("wb") as file, os.fdopen(os.dup(kept), "w") as person, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Statistics for quantized inputs", UserWarning)
            os.dup2(file.fileno(), 2)
            mirrored = person if sys.stderr is sys.__stderr__ else sys.stderr
            with redirect_stderr(mirrored):
                yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
