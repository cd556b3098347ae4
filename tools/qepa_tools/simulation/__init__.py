"""A hospital on one machine: the true server, the true gateways, a true broker, thousands of light boards."""
