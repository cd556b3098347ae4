"""What carries frames: the numbered link, its outbox, MQTT."""
