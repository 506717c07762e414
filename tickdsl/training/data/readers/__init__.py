"""Readers of data-set formats: each reads files into arrays of images and labels."""
