"""What a question is made of: the experiment's economics, measured capacity, demand, today's traffic."""
