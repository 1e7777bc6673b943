"""The one declarative file, onedomain.toml: read, checked whole, and turned into values.

    schema   the tables          problem   what is wrong, where, and what to do
    load     file -> Config      checks    what must hold between tables
    values   Config              template  the commented file of `onedomain init`
"""

from onedomain.config.load import load, read
from onedomain.config.problem import ConfigErrors, Problem
from onedomain.config.template import template
from onedomain.config.values import Config, ListenerValues

__all__ = ["Config", "ConfigErrors", "ListenerValues", "Problem", "load", "read", "template"]
