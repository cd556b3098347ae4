"""A safe configuration for the mosquitto broker: TLS, one credential a client, each confined to its own topics."""
