"""Labelled data written in formats that other tools read; each writer says what its format cannot hold."""
