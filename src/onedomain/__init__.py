"""OneDomain: one mail domain on many mail servers."""

__version__ = "0.1.0"
