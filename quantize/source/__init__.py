"""Where weights come from: a hub, a folder, a GGUF file, a shape without weights."""
