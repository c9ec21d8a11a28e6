"""Where `make lab` leads: the tour, with pictures that move, and from there to every other notebook."""

import small
from fuzzing import make_run
from playwright.sync_api import expect

START = "00_start"


def test_make_lab_says_what_to_open(lab):
    assert lab.page == f"/lab/tree/notebooks/{START}.ipynb"
    assert "ssh -L" in lab.printed


def test_nothing_covers_the_page(visit):
    notebook = visit(START)
    expect(notebook.page.locator(".jp-Notebook h1").first).to_be_visible()
    expect(notebook.page.locator(".Toastify__toast, .jp-Dialog")).to_have_count(0)


def test_sliders_change_the_pictures(visit):
    notebook = visit(START)
    notebook.edit(small.parameters(START))
    notebook.run_all()
    cells = notebook.code.filter(has=notebook.page.locator(".noUi-handle")).all()
    assert len(cells) == 4
    for cell in cells:
        handle, picture = cell.locator(".noUi-handle"), cell.locator(".jp-OutputArea-output img").first
        before = picture.get_attribute("src")
        handle.focus()
        notebook.page.keyboard.press("End" if handle.get_attribute("aria-valuenow") == "0.0" else "Home")
        expect(picture).not_to_have_attribute("src", before)


def test_links_lead_to_the_other_notebooks(visit):
    notebook = visit(START)
    notebook.page.locator(".jp-MarkdownCell a", has_text="explore").last.click()
    expect(notebook.page.locator(".lm-TabBar-tab.lm-mod-current", has_text="explore.ipynb")).to_be_visible()


def test_dropdowns_change_what_explore_shows(visit, tmp_path):
    make_run(tmp_path, rows=8)
    notebook = visit("explore")
    notebook.edit(small.parameters("explore", runs_dir=str(tmp_path)))
    notebook.run_all()
    picture = notebook.code.locator(".jp-OutputArea-output img").first
    before = picture.get_attribute("src")
    column = notebook.page.get_by_label("y", exact=True)
    column.select_option("prompt" if column.input_value() == "seconds" else "seconds")
    expect(picture).not_to_have_attribute("src", before)
