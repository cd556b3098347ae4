"""The virtual ward: server, gateways, optical links and real MicroPython boards on one machine."""
