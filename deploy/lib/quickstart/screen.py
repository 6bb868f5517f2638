"""What the quickstart shows: lines that stay and, on a terminal, a block that is drawn again and again."""

import os
import shutil
import sys
import time


class Screen:
    def __init__(self, terminal):
        self.terminal = terminal
        self.colour = terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        encoding = (sys.stdout.encoding or "").lower().replace("-", "")
        self.ascii = encoding != "utf8"
        self.drawn = 0
        self.began = time.monotonic()

    def paint(self, style, text):
        codes = {"good": "32", "bad": "31;1", "busy": "33", "dim": "2", "bold": "1", "name": "36", "new": "32;1"}
        return f"\033[{codes[style]}m{text}\033[0m" if self.colour else text

    def write(self, text):
        if self.ascii:
            for mark, plain in (("✓", "ok"), ("✗", "FAILED"), ("─", "-"), ("█", "#"), ("░", "."), ("×", "x"), ("→", "->"),
                                ("●", "*"), ("·", "-")):
                text = text.replace(mark, plain)
        sys.stdout.write(text.encode(sys.stdout.encoding or "ascii", "replace").decode(sys.stdout.encoding or "ascii"))
        sys.stdout.flush()

    def say(self, text=""):
        self.wipe()
        self.write(text + "\n")

    def title(self, number, text):
        self.say()
        self.say(self.paint("bold", f"── {number}  {text} " + "─" * max(4, 92 - len(text))))

    def command(self, text):
        self.say(self.paint("name", f"$ {text}"))

    def check(self, good, what, detail=""):
        mark = self.paint("good", "✓") if good else self.paint("bad", "✗")
        self.say(f" {mark} {what:<22} {detail}".rstrip())

    def note(self, text):
        self.say(self.paint("dim", f"   {text}"))

    # ---- the live block ----

    def draw(self, lines):
        if not self.terminal:
            return
        size = shutil.get_terminal_size()
        if len(lines) >= size.lines:  # it would scroll: only its end can be drawn again
            lines = lines[: size.lines - 1]
        out = f"\033[{self.drawn}A" if self.drawn else ""
        out += "".join(f"\033[2K{line}\n" for line in lines)
        out += "\033[J"
        self.drawn = len(lines)
        self.write(out)

    def keep(self):
        """What was drawn last stays."""
        self.drawn = 0

    def wipe(self):
        if self.drawn:
            self.write(f"\033[{self.drawn}A\033[J")
            self.drawn = 0


def bar(share, width=16):
    full = max(0, min(width, round(share * width)))
    return "█" * full + "░" * (width - full)
