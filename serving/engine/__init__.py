"""One vLLM process: started, guarded, waited for, read, diagnosed."""
