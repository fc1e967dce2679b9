"""The adviser: which methods over rows suit a data set, by what this repository measured: its figures stand in `measured.json`."""
