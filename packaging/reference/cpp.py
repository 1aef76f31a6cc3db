"""Doxygen's filter for spike_auth.hpp: a function without a comment gets a link to the C function that it calls.

It adds no line, so that Doxygen's messages name the lines of the file.
"""

import re
import sys
from pathlib import Path

CLASS = re.compile(r"class (\w+) \{")
# At the level of a class, or of the namespace; no statement, which stands deeper.
DECLARATION = re.compile(r"(?: {4}|inline )\w.*?\b(\w+)\(")


def c_function(owner: str, name: str, known: set[str]) -> str | None:
    name = re.sub("^(try_)?(co_)?", "", name)
    name = "new" if name in (owner, "make") else name
    names = [f"spike_auth_{owner}_{name}", f"spike_auth_{owner}_{name}_ms", f"spike_auth_{name}"]
    return next((name for name in names if name in known), None)


def with_links(text: str, known: set[str]) -> str:
    owner, lines = "", [""]
    for line in text.splitlines():
        if found := CLASS.match(line):
            owner = found[1]
        declared = DECLARATION.match(line)
        function = declared and not lines[-1].endswith("*/") and c_function(owner, declared[1], known)
        lines.append(f"/** See {function}(). */ {line}" if function else line)
    return "\n".join(lines[1:]) + "\n"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    known = re.findall(r"^.*\b(spike_auth_\w+)\(", file.with_suffix(".h").read_text(), re.M)
    sys.stdout.write(with_links(file.read_text(), set(known)))
