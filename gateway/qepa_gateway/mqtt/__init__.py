"""MQTT as transport for boards and server."""
