"""What several test files need: small configs, weights off their initial values, files of all kinds and damage."""
