"""A model loaded for quantization: its tokenizer, its weights, the rules that pick its layers."""
