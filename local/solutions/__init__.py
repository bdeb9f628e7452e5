"""Importing solution packages into the local Dataverse: ImportSolution, ImportSolutionAsync, StageSolution."""
