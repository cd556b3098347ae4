"""What the flash's main.py holds: start the application of the slot in use."""

from qepa_boot.loader import boot

boot()
