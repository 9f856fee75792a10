"""What calls cost where, and which runtime a function goes to by its needs, its time and its price."""
