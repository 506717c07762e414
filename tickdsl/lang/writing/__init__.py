"""Plans and syntax trees back to text."""
