"""Servers as links use them: what a plan may ask (decision/link/actions.py), one file per kind."""
