"""MicroPython's unix port for i386: words of 32 bits as on an ESP32, viper, a heap with a limit, sockets."""
