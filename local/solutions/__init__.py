"""Solution packages of the local Dataverse: imported, exported, deleted."""
