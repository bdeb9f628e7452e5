"""A small stand-in for a model-driven app of Dynamics 365: sign-in, navigation, grids, forms, the command bar and dialogs.

It renders what the environment says (site maps, views, forms, commands, web resources) and passes every call of its pages to
the local Dataverse as the signed-in user, whose roles are enforced there. Dynamics itself looks different in detail.
"""
