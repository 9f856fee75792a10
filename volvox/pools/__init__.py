"""Work pools as data: what they are, which one a stage goes to, what it will take there."""
