"""What `matches` means: the kernel, maintenance, rebuild and audit."""
