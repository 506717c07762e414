"""What a machine decides: devices, threads, memory, layouts, precision, compilation."""
