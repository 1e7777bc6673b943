"""The composition root: supervisor, workers, keeper; reads the configuration, builds the parts, hands them to each other."""
