"""The composition root: supervisor, workers, keeper. Reads the configuration, builds the parts, connects them."""
