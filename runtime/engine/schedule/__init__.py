"""What the next step computes: batching, pages, shared prefixes, fairness and time. No torch, no clock."""
