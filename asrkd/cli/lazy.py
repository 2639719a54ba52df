"""Commands whose modules are imported when they are called: those of a training take seconds, which `asrkd --help` need not wait for."""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Any

import click

from asrkd.cli.examples import add_examples
from asrkd.extras import broken_library


class LazyCommand(click.Command):
    """Takes the place in a group of the command `function` of `module`; of a command it knows its name and one line of help.

    Raises:
        DependencyError: by what calls it, if a library that its module needs cannot be loaded.
    """

    def __init__(self, name: str, module: str, function: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self._module, self._function = module, function

    @functools.cached_property
    def loaded(self) -> click.Command:
        """The command itself."""
        try:
            command: click.Command = getattr(import_module(self._module), self._function)
            from asrkd.cli.options import check_number_options
        except (ImportError, OSError) as error:
            raise broken_library(error) from error
        check_number_options(command)
        add_examples(command, self.name or "")
        return command

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        return self.loaded.make_context(*args, **settings)
