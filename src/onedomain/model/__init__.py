"""The field's values and the ports between strangers. Knows nothing of I/O, time, or any other part."""
