# SPDX-License-Identifier: Apache-2.0
"""Flags that are lists, which add up where they are given several times."""

import os

from absl import flags

flags.disclaim_key_flags()  # --help lists a flag with the module that asks for it


class ListFlag(flags.Flag):
    """As the flags of `flags.DEFINE_list`, whose last use alone would count."""

    def parse(self, argument):
        earlier = self.value if self.present else []
        super().parse(argument)
        self.value = [*earlier, *self.value]


class PathListParser(flags.ListParser):
    """A list of paths; an argument that is a path as it stands is one, with its commas."""

    def parse(self, argument):
        if isinstance(argument, str) and os.path.lexists(argument):
            return [argument]
        return super().parse(argument)


def define_list(name, default, help, flag_values, parser=None):
    """Defines a flag whose value is a list of strings; arguments as in `DEFINE_list`."""
    parser = parser or flags.ListParser()
    serializer = flags.CsvListSerializer(",")
    flag = ListFlag(parser, serializer, name, default, help, allow_overwrite=True)
    flags.DEFINE_flag(flag, flag_values)


def define_paths(name, default, help, flag_values):
    """Defines a flag whose value is a list of paths."""
    define_list(name, default, help, flag_values, PathListParser())
