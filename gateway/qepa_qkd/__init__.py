"""Decoy-state BB84 link: serial drivers, sans-IO post-processing, Alice and Bob programs, key store and KME.

What a caller outside this package needs: `kme_client` (keys over ETSI GS QKD 014), `config` and `pki` (to set a link
up), `alice` and `bob` (to run one). Every error is a `qepa_qkd.errors.QkdError`.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("qepa")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0+unknown"
