"""What is asked and when: lengths, prompts, arrivals, traces."""
