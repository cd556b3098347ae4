"""What must survive kill -9: SQLite in WAL mode with synchronous=FULL, secrets encrypted at rest."""
