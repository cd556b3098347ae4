"""What the treating team sees: consents, live vitals, alarms."""
