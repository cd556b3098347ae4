"""What a board runs before its application: chooses the slot. Only the cable writes it, no update over the air does."""
