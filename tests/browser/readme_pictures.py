"""The README's screenshots of the tour, taken again: `make readme-screenshots`.

Run where the README's pictures are made, with the models that the tour names, which are trained where they are missing.
"""

from lib import paths

PARTS = {"lab_tree": "1. Branch", "lab_draft": "2. Let", "lab_maze": "3. Think"}  # picture: heading of its part


def test_the_tour_is_photographed(visit):
    notebook = visit("00_start")
    notebook.run_all()
    assert not notebook.complaints()
    for picture, heading in PARTS.items():
        notebook.page.locator(".jp-Notebook h2", has_text=heading).evaluate("heading => heading.scrollIntoView()")
        notebook.page.screenshot(path=paths.ROOT / "docs" / "img" / f"{picture}.png")
