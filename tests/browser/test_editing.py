"""Changing a notebook in the browser: its text twin follows, and follows back; a mistake is one sentence."""

import pytest
from playwright.sync_api import expect

NAME = "1a3_scaling"
LINE = "prompts: int = {}  # number of distinct prompts"


def test_the_text_follows_when_the_notebook_is_saved(visit):
    notebook = visit(NAME)
    notebook.edit(notebook.parameters().replace(LINE.format(2), LINE.format(3)))
    notebook.save()
    assert LINE.format(3) in notebook.parameters()
    assert LINE.format(3) in notebook.text.read_text()
    assert notebook.changed_lines() == (1, 1)


def test_the_notebook_follows_when_the_text_is_edited(visit):
    notebook = visit(NAME)
    text = notebook.text.read_text()
    assert LINE.format(2) in text
    notebook.text.write_text(text.replace(LINE.format(2), LINE.format(5)))
    notebook.reload()
    expect(notebook.code.first).to_contain_text(LINE.format(5))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("model: str", "modle: str", "1a3_scaling has no parameter 'modle'; did you mean 'model'?"),
        ('"ladder-1m"', '"ladder-2m"', "ladder-2m"),
    ],
    ids=["name", "value"],
)
def test_a_mistake_is_one_sentence(visit, old, new, sentence):
    notebook = visit(NAME)
    notebook.edit(notebook.parameters().replace(old, new, 1))
    notebook.run_all()
    notebook.code.nth(1).scroll_into_view_if_needed()  # where the screenshot looks
    (said,) = notebook.complaints()
    assert said.startswith("ParameterError: ") and sentence in said
    assert len(said.splitlines()) == 1
    assert set(notebook.prompts()[2:]) == {"[ ]:"}
