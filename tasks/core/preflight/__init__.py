"""What can be known of a training before it is started: batches, lengths, memory, packages, rewards, and a probe.

All but the probe works on a login node: from the recipe's values, the model's config.json and the problems, without
torch. Each check yields `Finding`s; `flows/preflight.py` gathers them for the stages of a recipe.
"""
