"""Templates and style that all pages share."""
