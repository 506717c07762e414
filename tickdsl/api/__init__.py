"""What `import tickdsl` offers: check and run plans, and read the results, from scripts, notebooks and tests."""
