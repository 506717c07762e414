"""A run as TensorBoard shows it. Reads records, imports no torch."""
