"""What every other package stands on: registries, logs, processes, files, training events."""
