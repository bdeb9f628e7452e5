class StartError(Exception):
    """Why the host cannot start: one line that names the setting, option or function."""
