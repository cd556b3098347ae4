"""Who the board is and the keys it holds; what must never run backwards."""
