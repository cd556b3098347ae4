"""How well the board's beat classifier does on people it was never trained on, from any directory of WFDB records."""
