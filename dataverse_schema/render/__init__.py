"""The source as the XML that Dynamics stores: the same text goes into the solution zip and through the Web API."""
