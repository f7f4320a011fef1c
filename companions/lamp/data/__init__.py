"""Files of the benchmark that are built here, because their texts may not be passed on."""
