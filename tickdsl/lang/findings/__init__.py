"""What `check` says: diagnostics, their pages and the forms they are printed in."""
