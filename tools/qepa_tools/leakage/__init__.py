"""``qepa audit privacy``: what models, sums and updates tell about one patient, measured by attacking them."""
