"""The exceptions that a stage's end tells apart from a crash."""


class UserError(Exception):
    """A mistake in a recipe, a path or the data: shown as one paragraph, never with a traceback, exit code 2.

    The message names what was given (file, key, value), what is allowed and the fix.
    """


class Unhealthy(UserError):
    """A training that went wrong and was ended for it (tasks/core/health.py): the recipe has to change.

    The message says what was seen, what it usually means, what to try and where the checkpoints are. A rerun of the
    same recipe would come to the same end, so it is the user's turn, and nothing is tried again.
    """


class TransientError(Exception):
    """Something outside failed that may work again soon, such as the network: exit code 75, the flow tries again."""
