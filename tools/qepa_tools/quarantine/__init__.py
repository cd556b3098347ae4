"""Who is quarantined, and the end of it under a person's signature."""
