"""The README's screenshots of the tour, taken again: `make readme-screenshots`.

Run where the README's pictures are made, with the models that the tour names, which are trained where they are missing.
"""

from playwright.sync_api import expect

from lib import paths

PARTS = {"lab_tree": 2, "lab_draft": 3, "lab_maze": 4}  # picture: the code cell that draws it
TALL = {"width": 1280, "height": 1000}  # prose, code and picture of a part are seen together


def test_the_tour_is_photographed(visit):
    notebook = visit("00_start")
    notebook.page.set_viewport_size(TALL)
    notebook.run_all()
    assert not notebook.complaints()
    for name, cell in PARTS.items():
        picture = notebook.code.nth(cell).locator(".jp-OutputArea-output img").first
        picture.scroll_into_view_if_needed()  # what is far off is not laid out
        picture.evaluate("picture => picture.scrollIntoView({block: 'end'})")
        expect(picture).to_be_in_viewport(ratio=0.99)
        notebook.page.screenshot(path=paths.ROOT / "docs" / "img" / f"{name}.png")
