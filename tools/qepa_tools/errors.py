"""The one error of the tools."""


class ToolError(Exception):
    """Something the user can mend; ``str(error)`` is one sentence that says what and how."""
