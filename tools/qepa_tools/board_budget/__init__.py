"""What a board's work costs: measured on stand-ins, estimated for an ESP32, with currents from data sheets."""
