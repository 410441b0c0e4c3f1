"""The fixed prompts of the generation agreement: short tasks of different kinds, so that answers differ in form."""

PROMPTS = (
    "What is the capital of France? Answer in one sentence.",
    "Explain in two sentences why the sky is blue.",
    "List three fruits that are red.",
    "Translate to French: The train leaves at noon.",
    "Write a haiku about the sea.",
    "What is 17 plus 25? Show how you get there.",
    "Summarize in one sentence: The committee met, discussed the budget for two hours, and decided nothing.",
    "Write a Python function that returns the larger of two numbers.",
    "Give me a polite reply that declines a meeting on Friday.",
    "Who wrote Romeo and Juliet, and roughly when?",
    "Name two differences between a list and a tuple in Python.",
    "Correct the grammar: She don't has no time for reading books.",
    "What should I pack for a rainy weekend in the mountains?",
    "Is the following review positive or negative? 'The battery died after a week.'",
    "Describe how to boil an egg in three steps.",
    "Continue the story in two sentences: The door had been locked for years, until tonight.",
)
ANSWER_TOKENS = 32
ANSWERS_FILE = "answers.json"  # of the original, in its checkpoint
