"""The server under load: found, spoken to, watched for life."""
