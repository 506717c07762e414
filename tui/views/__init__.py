"""The content of the screens, as values and styled lines, without Textual."""
