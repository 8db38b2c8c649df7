"""Proximal policy optimisation with a value model, on top of TRL's GRPO trainer (stage train_ppo)."""
