"""The built-in mail server, a process of its own: LMTP in, IMAP out, one directory on disk."""
