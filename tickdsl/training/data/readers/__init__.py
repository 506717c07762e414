"""One reader per kind of source: files in, pictures as bytes and labels out."""
