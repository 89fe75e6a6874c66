"""Large values in shared memory: put once, read in place by every process of the host."""
