"""The ledger as it is read: frame, text, Markdown and README are of one ledger, and figures that are named exist."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import wire_rows
from typer.testing import CliRunner

from lib import claims, figures, paths
from lib.claims import NOT_RUN, VERDICTS, Claim, Finding, Verdict, report, wire
from lib.claims import __main__ as ledger
from lib.params import EXPERIMENTS

EVERY = [claim for own in claims.experiments().values() for claim in own]
RESULTS, README = paths.ROOT / "docs" / "results.md", paths.ROOT / "README.md"
FOUND = Finding(
    "mean", "points", 3.0, 1.0, 5.0, 8, 0.01, 1.0, 2.0, 2.0, ("run_a", "run_b"), replicate="seed", scale="points"
)


def claim(name: str, test=lambda rows: None, **given) -> Claim:
    return Claim(f"4a/{name}", f"Sentence about {name}.", "above zero", test, **{"needs": "a run", **given})


def four() -> list[Verdict]:
    """One verdict of every kind, and an exact one."""
    exact = replace(FOUND, exact=True, runs=(), estimate=1234.0, unit="bytes", p_supports=0.0)
    against, open_ = replace(FOUND, p_supports=1.0, p_refutes=0.001), replace(FOUND, p_supports=0.3)
    return [
        Verdict(claim("for", figure="4a_tokens"), "supported", FOUND, family=3),
        Verdict(claim("against"), "not supported", against, family=3),
        Verdict(claim("open"), "inconclusive", open_, family=3),
        Verdict(claim("waits"), NOT_RUN, family=3),
        Verdict(claim("sum", needs=""), "supported", exact, family=3),
    ]


def cells(markdown: str) -> list[list[str]]:
    """The cells of all tables' rows, headings and rules left out."""
    rows = [line.strip("|").split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows if row[0].strip() not in ("---", "id", "study")]


class TestClaims:
    def test_names_are_unique_and_of_their_experiment(self):
        assert len({claim.id for claim in EVERY}) == len(EVERY)
        for experiment, own in claims.experiments().items():
            assert {claim.id.split("/")[0] for claim in own} == {experiment.split("_")[0]}

    def test_every_figure_that_is_named_exists_and_is_of_the_same_experiment(self):
        known = figures.specs()
        for claim in EVERY:
            if claim.figure:
                assert claim.figure in known, claim.id
                assert claim.id[0] == known[claim.figure].experiment.removeprefix("bench/")[0]

    def test_sentences_end_and_hold_nothing_that_breaks_a_table(self):
        for claim in EVERY:
            assert claim.text.endswith("."), claim.id
            assert not set("|\n") & set(claim.text + claim.expected + claim.needs), claim.id
            assert not claim.expected.endswith(".")

    def test_those_of_the_readme_exist_and_are_few(self):
        assert set(report.MAIN) <= {claim.id for claim in EVERY}
        assert len(set(report.MAIN)) == len(report.MAIN) <= 30
        assert {name[0] for name in report.MAIN} == set("1234")


class TestFamily:
    def test_the_bridges_three_experiments_are_one_family_and_the_others_their_own(self, monkeypatch, tmp_path):
        asked = []
        monkeypatch.setattr(claims, "judge", lambda tested: asked.append({c.id[:2] for c, _ in tested}) or [])
        ledger.decided(runs_dir=tmp_path)
        assert sorted(map(sorted, asked)) == [["1a"], ["2a"], ["3a"], ["4a", "4b", "4c"]]

    def test_an_exact_finding_takes_no_part_in_the_adjustment(self):
        exact = replace(FOUND, exact=True, p_supports=1.0, p_refutes=0.0)
        tested = [(claim("a"), FOUND), (claim("b"), exact), (claim("c"), exact), (claim("d"), None)]
        verdicts = claims.judge(tested)
        assert [v.verdict for v in verdicts] == ["supported", "not supported", "not supported", NOT_RUN]
        assert verdicts[0].finding.p_supports == FOUND.p_supports
        assert {v.family for v in verdicts} == {1}
        assert claims.judge([*tested, (claim("e"), FOUND)])[0].finding.p_supports == 2 * FOUND.p_supports


class TestFrame:
    def test_a_row_per_claim_with_all_that_is_known(self):
        table = report.frame(four()).set_index("id")
        assert list(table.verdict) == ["supported", "not supported", "inconclusive", NOT_RUN, "supported"]
        first = table.loc["4a/for"]
        assert (first.measured, first.interval, first.n) == ("+3 points", "+1 to +5", "8 seeds")
        assert (first.runs, first.figure, first.p, first.detectable) == (("run_a", "run_b"), "4a_tokens", 0.01, "")
        assert table.p["4a/against"] == 0.001
        assert table.detectable[["4a/against", "4a/open"]].str.endswith(" points").all()
        assert list(table.loc["4a/waits"][["measured", "interval", "n"]]) == ["", "", ""]
        assert list(table.loc["4a/sum"][["measured", "n"]]) == ["1,234 bytes", "exact"]
        assert table.p.isna().tolist() == [False, False, False, True, True]

    def test_power_is_that_of_what_the_claim_expects_in_its_family(self):
        small, large = (
            report.frame([Verdict(claim("a", effect=effect), "supported", FOUND, family=1)]).power[0]
            for effect in (1.0, 4.0)
        )
        assert 0 < small < 0.5 < 0.9 < large <= 1
        wide = report.frame([Verdict(claim("a", effect=4.0), "supported", FOUND, family=30)]).power[0]
        assert wide < large

    @pytest.mark.parametrize(
        ("estimate", "unit", "said"),
        [
            (0.5, "%", "+0.5 %"),
            (-7.25, "points", "-7.25 points"),
            (1.888, "×", "1.89×"),
            (86.04, "% correct", "86 % correct"),
            (131072, "bytes", "131,072 bytes"),
        ],
    )
    def test_numbers_are_short_and_have_their_sign_where_it_says_something(self, estimate, unit, said):
        assert report.quantity(replace(FOUND, estimate=estimate, unit=unit)) == said

    def test_too_few_replicates_have_no_interval_and_detect_nothing(self):
        alone = replace(FOUND, n=1, low=-np.inf, high=np.inf, spread=np.inf)
        (row,) = report.frame([Verdict(claim("a"), "inconclusive", alone)]).itertuples()
        assert (row.interval, row.detectable, row.power) == ("none", "none", 0.0)


class TestMarkdown:
    def test_all_forms_say_the_same(self):
        verdicts = claims.decide(wire.claims(), wire_rows.rows(), pd.DataFrame())
        table = report.frame(verdicts)
        assert set(table.verdict) == set(VERDICTS)
        shown = {row[0]: row for row in cells(report.markdown(verdicts))}
        printed = report.text(verdicts)
        for row in table.itertuples():
            assert shown[row.id][1:3] == [row.claim, row.expected]
            assert shown[row.id][3].startswith(row.measured)
            assert shown[row.id][5] == row.verdict + (" (exact)" if row.n == "exact" else "")
            assert re.search(rf"^{re.escape(row.id)} +{row.verdict}( |$)", printed, re.MULTILINE)

    def test_rows_have_as_many_cells_as_their_heading(self):
        width = len(report.FULL)
        found = cells(report.markdown(four()))
        assert [len(row) for row in found] == [width] * 5
        assert "2 supported, 1 not supported, 1 inconclusive, 1 not run at this scale" in report.markdown(four())

    def test_what_rows_rest_on_is_said_below(self):
        below = report.markdown(four()).split("### What they rest on")[1]
        assert "- `4a/for`: Measured: mean. p = 0.01 for it, 1 against it (Holm)" in below
        assert "Runs: run_a, run_b." in below
        assert "- `4a/waits`: Not run: needs a run." in below

    def test_the_table_goes_between_the_marks_and_nowhere_else(self):
        readme = f"before\n{report.BEGIN}\nold\n{report.END}\nafter"
        once = report.within(readme, "new")
        assert once == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter"
        assert report.within(once, "new") == once
        for wrong in ("no marks", readme + readme):
            with pytest.raises(ValueError, match="once each"):
                report.within(wrong, "new")


class TestDocs:
    def test_one_command_writes_both(self, tmp_path, monkeypatch):
        (tmp_path / "docs").mkdir()
        (tmp_path / "README.md").write_text(f"# T\n{report.BEGIN}\n{report.END}\nrest\n", encoding="utf-8")
        monkeypatch.setattr(paths, "ROOT", tmp_path)
        done = CliRunner().invoke(ledger.app, ["--runs-dir", str(tmp_path), "--docs"])
        assert (done.exit_code, done.stdout) == (0, "")
        assert agree((tmp_path / "README.md").read_text("utf-8"), (tmp_path / "docs" / "results.md").read_text("utf-8"))
        printed = CliRunner().invoke(ledger.app, ["--runs-dir", str(tmp_path), "--markdown"]).stdout
        assert printed == (tmp_path / "docs" / "results.md").read_text("utf-8")

    def test_those_in_the_repository_agree_and_hold_every_claim(self):
        readme, results = README.read_text("utf-8"), RESULTS.read_text("utf-8")
        assert agree(readme, results)
        order = [name for name in EXPERIMENTS if name in claims.experiments()]
        expected = [(c.id, c.text, c.expected) for name in order for c in claims.experiments()[name]]
        again = "the claims have changed since: run make readme-figures"
        assert [tuple(row[:3]) for row in cells(results)] == expected, again


def agree(readme: str, results: str) -> bool:
    """Whether the README's table says of each of its claims what the results say."""
    table = readme.split(report.BEGIN)[1].split(report.END)[0]
    known = {row[0]: row for row in cells(results)}
    assert len(cells(table)) == len(report.MAIN)
    for (name, text), row in zip(report.MAIN.items(), cells(table), strict=True):
        _, _, expected, measured, _, verdict, _ = known[name]
        if not expected.startswith(row[2]) or [*row[:2], *row[3:]] != [name.split("/")[0], text, measured, verdict]:
            return False
    return True
