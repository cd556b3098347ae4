"""The audit log outside of the server: read, exported, countersigned, verified."""
