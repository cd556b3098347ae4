"""Why a model answers as it does, in numbers and in words, and whether it still sees what it learnt from."""
