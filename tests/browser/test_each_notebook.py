"""Every notebook, opened in the browser and run from top to bottom, smallest parameters typed in."""

import pytest
import small

FIGURES = {  # how many pictures a reader should see at least
    "00_start": 4,
    "1a3_scaling": 1,
    "2a_specdec": 2,
    "3a_poh_scaling": 5,
    "4a_bridge": 2,
    "4b_wire": 3,
    "4c_inference": 4,
    "explore": 1,
    "paper_figures": 1,
}
OF_RUNS = {"explore", "paper_figures"}  # show what the notebooks before them left


@pytest.mark.parametrize("name", small.NOTEBOOKS)
def test_runs_from_top_to_bottom(visit, name):
    notebook = visit(name)
    expected = 0 if name in OF_RUNS and not notebook.has_runs() else FIGURES[name]
    typed = small.parameters(name)
    added = len(typed.splitlines()) - len(notebook.parameters().splitlines())
    notebook.edit(typed)
    notebook.run_all()
    notebook.save()
    assert notebook.stored_errors() == []
    assert not [text for text in notebook.complaints() if "Traceback" in text or "Warning" in text]
    assert notebook.prompts() == [f"[{n}]:" for n in range(1, notebook.code.count() + 1)]
    assert notebook.changed_lines() == (added, 0), "running changed the text"
    pictures = notebook.pictures()
    assert len(pictures) >= expected
    assert all(min(size) > 0 for _, *size in pictures)
    assert len({picture.source for picture in pictures}) == len(pictures), "a picture is shown twice"
    if pictures:  # where the screenshot looks
        notebook.code.locator("img").first.evaluate("picture => picture.scrollIntoView({block: 'center'})")
