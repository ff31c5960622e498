#!/usr/bin/env python3
"""Draws docs/cpu-speed.svg: figures of docs/performance.md as bars, beside rivals and ceilings.

    tests/benches/cpu_speed.py            draw it
    tests/benches/cpu_speed.py --check    fail unless it is what this would draw

The figures are in cpu_speed.json; a share is of the ceiling that the same run measured. The picture brings its own background and follows the scheme of
the reader, light or dark. Plain Python, so that it is the same picture everywhere.
"""

import json
import sys
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
PICTURE = HERE.parents[1] / "docs" / "cpu-speed.svg"

WIDTH, LEFT, RIGHT = 820, 236, 170
BAR, GAP, HEAD = 18, 8, 46

STYLE = """
  svg { font: 13px system-ui, sans-serif }
  .back { fill: #ffffff } text { fill: #1f2328 } .quiet { fill: #59636e; font-size: 12px }
  .title { font-size: 15px; font-weight: 600 } .panel { font-weight: 600 }
  .ours { fill: #0969da } .rival { fill: #8c959f } .room { fill: #0969da; opacity: .16 } .ceiling { stroke: #1f2328; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    .back { fill: #0d1117 } text { fill: #e6edf3 } .quiet { fill: #9198a1 }
    .ours { fill: #4493f8 } .rival { fill: #656c76 } .room { fill: #4493f8; opacity: .22 } .ceiling { stroke: #e6edf3 }
  }
"""


def number(value):
    return f"{value:,.0f}" if isinstance(value, int) else f"{value:,.1f}"


def about(ceiling):
    """Two digits: it is the quotient of two rounded figures."""
    return f"{round(ceiling, 1 - len(str(int(ceiling))) + 1):,.0f}"


def bar(data, top, scale, room):
    """One row: the name, the bar, and up to the ceiling, where that is on the picture, a pale continuation with a line at its end."""
    value, share = data["value"], data.get("share")
    base, width = top + BAR - 5, value * scale
    yield f'<text x="{LEFT - 10}" y="{base}" text-anchor="end">{escape(data["name"])}</text>'
    end = LEFT + width
    if share and value / share * scale <= room:
        end = LEFT + value / share * scale
        yield f'<rect class="room" x="{LEFT + width:.1f}" y="{top}" width="{end - LEFT - width:.1f}" height="{BAR}"/>'
        yield f'<line class="ceiling" x1="{end:.1f}" x2="{end:.1f}" y1="{top - 2}" y2="{top + BAR + 2}"/>'
    kind = "ours" if data.get("ours") else "rival"
    yield f'<rect class="{kind}" x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2"/>'
    of = f'<tspan class="quiet" dx="6">{share:.0%} of {about(value / share)}</tspan>' if share else ""
    yield f'<text x="{end + 8:.1f}" y="{base}">{number(value)}{of}</text>'


def panel(data, top):
    yield f'<text class="panel" x="{LEFT}" y="{top + 14}">{escape(data["title"])}</text>'
    yield f'<text class="quiet" x="{LEFT}" y="{top + 32}">The line is {escape(data["ceiling"])}, measured in the same run</text>'
    room = WIDTH - LEFT - RIGHT
    # The longest bar or a ceiling that is not much longer; a ceiling that is far away is only said.
    largest = max(b["value"] for b in data["bars"])
    ceilings = [b["value"] / b["share"] for b in data["bars"] if "share" in b]
    scale = room / max([largest] + [c for c in ceilings if c < 2 * largest])
    for row, each in enumerate(data["bars"]):
        yield from bar(each, top + HEAD + row * (BAR + GAP), scale, room + 0.5)


def picture(data):
    lines, top = [], 44
    for each in data["panels"]:
        lines.extend(panel(each, top))
        top += HEAD + len(each["bars"]) * (BAR + GAP) + 20
    said = "; ".join(f'{p["title"]}: ' + ", ".join(f'{b["name"]} {number(b["value"])}' for b in p["bars"]) for p in data["panels"])
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" role="img">',
        f"<title>{escape(data['title'])}</title>",
        f"<desc>{escape(said)}</desc>",
        f"<style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{top}" rx="6"/>',
        f'<text class="title" x="20" y="28">{escape(data["title"])}</text>',
    ]
    return "\n".join(head + lines + ["</svg>", ""])


def main():
    drawn = picture(json.loads((HERE / "cpu_speed.json").read_text(encoding="utf-8")))
    if sys.argv[1:] == ["--check"]:
        if not PICTURE.is_file() or PICTURE.read_text(encoding="utf-8") != drawn:
            sys.exit(f"{PICTURE}: not what the figures are; run {Path(__file__).name}")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        PICTURE.write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
