"""Tools around QEPA: the ``qepa`` command, the key dock, the virtual ward with its boards and optical bench."""
