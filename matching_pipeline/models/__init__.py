"""The registry of models, and the activation of one."""
