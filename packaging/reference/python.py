"""Writes the reference of the Python package into the folder that is given. A warning is an error."""

import inspect
import pkgutil
import re
import sys
import warnings

import pdoc

import spike_auth


def name_true_modules() -> None:
    """The public classes and functions call spike_auth their module. pdoc looks there for what annotations name."""
    public = {name: getattr(spike_auth, name) for name in spike_auth.__all__}
    for module in [module for name, module in sys.modules.items() if name.startswith("spike_auth._")]:
        source = inspect.getsource(module)
        for found in re.finditer(r"^(?:class|def) (\w+)", source, re.M):
            if found[1] in public:
                public[found[1]].__module__ = module.__name__
                # Since Python 3.13 the other one removes it.
                public[found[1]].__firstlineno__ = source.count("\n", 0, found.start()) + 1


if __name__ == "__main__":
    warnings.filterwarnings("error", module=r"pdoc\.")
    # What both clients have in common.
    spike_auth.BaseClient = spike_auth.Client.__base__
    spike_auth.__all__.append("BaseClient")
    name_true_modules()
    modules = [f"spike_auth.{each.name}" for each in pkgutil.iter_modules(spike_auth.__path__) if each.name[0] != "_"]
    pdoc.render.configure(show_source=False)
    pdoc.pdoc("spike_auth", *modules, output_directory=pdoc.Path(sys.argv[1]))
