"""A notebook in JupyterLab's page, worked as a person does it: by its menus, its keyboard and what is to be seen."""

import subprocess
from typing import NamedTuple

import nbformat
from lab_server import Lab
from playwright.sync_api import Page, expect

from lib import notebooks

PATIENCE = 300_000  # milliseconds until a test gives up; far more than anything takes, even on a busy machine
PANEL = ".jp-NotebookPanel:not(.lm-mod-hidden)"
# True once a cell has a number and none waits for its turn: all have run, or one has failed.
ENDED = f"""() => {{
  const prompts = [...document.querySelectorAll("{PANEL} .jp-CodeCell .jp-InputArea-prompt")].map(p => p.textContent);
  return prompts.some(p => /\\d/.test(p)) && !prompts.some(p => p.includes("*"));
}}"""
SEEN = """i => { const shown = i.getBoundingClientRect();
  return [i.src, i.naturalWidth, i.naturalHeight, shown.width, shown.height]; }"""


class Picture(NamedTuple):
    """An image of an output: what it shows, its own size, and how large it is shown, in pixels."""

    source: str
    width: int
    height: int
    shown_width: float
    shown_height: float


class Notebook:
    """One notebook, open in the only tab of a page, its kernel ready."""

    def __init__(self, page: Page, lab: Lab, name: str) -> None:
        self.page, self.root = page, lab.root
        self.file = lab.root / "notebooks" / f"{name}.ipynb"
        self.text = self.file.parent / "src" / f"{name}.py"
        page.set_default_timeout(PATIENCE)
        page.goto(f"{lab.address}/lab/tree/notebooks/{name}.ipynb?reset&token={lab.token}")
        self.code = page.locator(f"{PANEL} .jp-CodeCell")
        self._ready()

    def reload(self) -> None:
        """Load the page again, as after a change of the file on disk."""
        self.page.reload()
        self._ready()

    def run_all(self) -> None:
        """Restart the kernel and run every cell; returns when all have run, or when one has failed."""
        self._menu("Edit", "editmenu:clear-all")  # a number from now on is one of this run
        self._menu("Run", "runmenu:restart-and-run-all")
        self.page.locator(".jp-Dialog button.jp-mod-accept").click()
        self.page.wait_for_function(ENDED, timeout=PATIENCE)
        self._idle()

    def edit(self, source: str, cell: int = 0) -> None:
        """Put `source` in the place of a code cell's text; the parameters are the first one's."""
        self.code.nth(cell).locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(source)

    def save(self) -> None:
        self.page.keyboard.press("ControlOrMeta+S")
        expect(self.page.locator(".lm-TabBar-tab.lm-mod-current.jp-mod-dirty")).to_have_count(0, timeout=PATIENCE)

    def prompts(self) -> list[str]:
        """What stands beside the code cells: `[3]:` beside the one that ran third."""
        return self.code.locator(".jp-InputArea-prompt").all_text_contents()

    def complaints(self) -> list[str]:
        """What stands on the page in red, cell by cell: errors, and what went to stderr."""
        return self.code.locator('[data-mime-type="application/vnd.jupyter.stderr"]').all_text_contents()

    def stored_errors(self) -> list[str]:
        """The errors in the file as saved."""
        cells = nbformat.read(self.file, as_version=4).cells
        outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
        return [output.evalue for output in outputs if output.output_type == "error"]

    def pictures(self) -> list[Picture]:
        """Every image among the outputs, looked at where it stands."""
        images = self.code.locator(".jp-OutputArea-output img").all()
        for image in images:
            image.scroll_into_view_if_needed()  # what is far off is not laid out
        return [Picture(*image.evaluate(SEEN)) for image in images]

    def parameters(self) -> str:
        """The parameters cell in the file as saved."""
        return notebooks.code_cells(self.file, "parameters")[0]

    def changed_lines(self) -> tuple[int, int]:
        """How many lines of the text twin are new, and how many gone, since it was cloned."""
        command = ["git", "diff", "--numstat", "--", self.text]
        changed = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True).stdout.split()
        return (int(changed[0]), int(changed[1])) if changed else (0, 0)

    def has_runs(self) -> bool:
        """Whether an experiment has been run in this clone."""
        return (self.root / "runs").exists()

    def _menu(self, menu: str, command: str) -> None:
        self.page.locator(f".lm-MenuBar-item >> text={menu}").click()
        self.page.locator(f'.lm-Menu-item[data-command="{command}"]').click()

    def _ready(self) -> None:
        self.code.first.wait_for()
        self._idle()

    def _idle(self) -> None:
        expect(self.page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=PATIENCE)
