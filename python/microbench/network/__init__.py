"""Models of collectives on networks: what an all-reduce costs, fitted to measurements and simulated to 2^20 ranks."""
