"""Training for any pair of networks: data, losses, regularisers, the loop, snapshots and the report."""
