"""`qepa board`: flash, provision, dock, update, replace; on esptool's and mpremote's own code."""
