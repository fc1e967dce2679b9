"""What holds units: datasets, lakes, models, token streams."""
