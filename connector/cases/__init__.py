"""One module for each kind of change: what it reads, and which decision of the core it asks for."""
