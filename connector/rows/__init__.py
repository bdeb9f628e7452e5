"""Between Dataverse rows and the core: what is read, what is written, nothing decided."""
