"""Contract between gateways and server: topics, messages, identities, sessions, cells and LightHE sums.

README.md beside this file tells the round as a sequence of messages.
"""
