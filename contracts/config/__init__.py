"""What people write: experiments, scenarios, price tables, policies."""
