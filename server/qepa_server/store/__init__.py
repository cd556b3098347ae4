"""What must survive: one SQLite database, migrations numbered, secrets sealed under a key file."""
