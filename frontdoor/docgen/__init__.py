"""JSON Schemas and record pages generated from contracts."""
