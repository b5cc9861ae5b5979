"""Optimisers as values that step, and the schedule of stages they run through.

Nothing here knows how the cost is computed: an optimiser sees `objective(Y) -> Evaluation`, and its
state goes to a checkpoint whole.
"""
