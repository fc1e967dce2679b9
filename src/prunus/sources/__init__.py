"""Where data and models come from and go to: files, hubs, packages; checks and exports."""
