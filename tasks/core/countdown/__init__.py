"""Countdown: from some numbers, each used once, and + - * /, reach a target."""
