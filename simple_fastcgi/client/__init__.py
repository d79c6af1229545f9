"""Calling FastCGI applications: what a web server does, from Python."""
