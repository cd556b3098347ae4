"""The bedside gateway: checks frames, strips link masks, adds what it cannot read, hands models and consents down."""
