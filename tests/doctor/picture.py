"""`make picture`: writes docs/doctor.svg, what a terminal shows of a run of `spike-auth doctor` against a sandbox."""

from __future__ import annotations

import html
import re
import sys
from itertools import groupby

from doctor.faces import real_faces
from support.project import ROOT, SHARED, sandbox, settings

PICTURE = ROOT / "docs" / "doctor.svg"
COLUMNS = 122
WIDTH, HEIGHT, MARGIN = 8, 18, 14  # of a character of 13 px, of a line, around all
COLOURS = {"31": "#ff7b72", "32": "#7ee787", "33": "#f2cc60", "2": "#8b949e", "1": "#ffffff"}
PLAIN, GROUND = "#c9d1d9", "#0d1117"

Cell = tuple[str, str]  # a character and its colour


def shot() -> str:
    """A set-up with a blank at the end of its key. The library is shown where `make install` puts it."""
    user = "my_application_user_123"
    with sandbox() as service:
        good = settings(service, "https")
        code, shown = real_faces()[0].on_terminal(
            "doctor", user, **{**good, "SPIKE_HMAC_KEY": good["SPIKE_HMAC_KEY"] + " "}
        )
    assert code == 1, shown
    version = re.match(r"spike_auth (\S+)", shown)[1]
    shown = shown.replace(str(SHARED.resolve()), f"/usr/local/lib/libspike_auth.so.{version}")
    return f"$ spike-auth doctor {user}\n{shown}"


def lines(shown: str) -> list[list[Cell]]:
    """Wrapped as a terminal does it."""
    rows: list[list[Cell]] = []
    for line in shown.splitlines():
        colour, cells = PLAIN, []
        for code, character in re.findall(r"\033\[(\d+)m|(.)", line):
            if code:
                colour = COLOURS.get(code, PLAIN)
            else:
                cells.append((character, colour))
        rows += [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)] or [[]]
    return rows


def svg(shown: str) -> str:
    rows = lines(shown)
    width, height = COLUMNS * WIDTH + 2 * MARGIN, len(rows) * HEIGHT + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>',
        f'<g font-family="monospace" font-size="13" fill="{PLAIN}" xml:space="preserve">',
    ]
    for number, row in enumerate(rows):
        if not row:
            continue
        spans = []
        for colour, cells in groupby(row, key=lambda cell: cell[1]):
            text = html.escape("".join(character for character, _ in cells), quote=False)
            spans.append(text if colour == PLAIN else f'<tspan fill="{colour}">{text}</tspan>')
        parts.append(f'<text x="{MARGIN}" y="{MARGIN + number * HEIGHT + 13}">{"".join(spans)}</text>')
    return "\n".join([*parts, "</g>", "</svg>", ""])


def words(picture: str) -> str:
    """What a picture says, without numbers and blanks, which differ from run to run, as where lines are wrapped does."""
    text = html.unescape(re.sub(r"<[^>]*>", "", picture))
    return re.sub(r"[\d.]+", "N", re.sub(r"\s", "", text))


def main() -> int:
    PICTURE.write_text(svg(shot()))
    print(PICTURE.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
