"""The exceptions that a stage's end tells apart from a crash."""


class UserError(Exception):
    """A mistake in a recipe, a path or the data: shown as one paragraph, never with a traceback, exit code 2.

    The message names what was given (file, key, value), what is allowed and the fix.
    """


class TransientError(Exception):
    """Something outside failed that may work again soon, such as the network: exit code 75, the flow tries again."""
