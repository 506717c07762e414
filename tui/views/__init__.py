"""What the screens say, as values and lines of text; no module in here names textual."""
