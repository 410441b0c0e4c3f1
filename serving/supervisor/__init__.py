"""Who keeps engines running: in the foreground, as a daemon, replica by replica."""
