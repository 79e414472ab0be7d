"""Tests of mfavbs.files: small tables, whole or not there, and cells no spreadsheet runs."""

import csv
import os

import pytest

from mfavbs.files import (
    path_from_spreadsheet,
    read_reasons,
    spreadsheet_path,
    write_csv,
    write_reasons,
)

# Spreadsheets pass over blanks, controls and marks without width, and read full-width signs.
FORMULAS = [
    *("=1.jpg", "+1", "-1", "@a/b", "\tx", "\rx", " =1", "\n=1", "\x00=1", "\u00a0@x", "\u200b=1"),
    *("\ufeff=1", "＝1", "＋1", "－1", "＠a", " \t－1"),
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text):
    assert spreadsheet_path(text) == f"./{text}"
    assert os.path.normpath(spreadsheet_path(text)) == os.path.normpath(text)


@pytest.mark.parametrize("text", [*FORMULAS, "", " ", "a=1", "é", "./a", "././=1", "−1", "."])
def test_every_text_comes_back(text):
    assert path_from_spreadsheet(spreadsheet_path(text)) == text


@pytest.mark.parametrize("text", ["a=1", "x/-1", "é", ".hidden", "", "1+1", "_-"])
def test_other_texts_stay_as_they_are(text):
    assert spreadsheet_path(text) == text


def test_reasons_come_back_with_what_is_no_utf8_written_out(tmp_path):
    path = tmp_path / "failures.csv"
    write_reasons(path, [("=1+1.png", 'why \udce9, "so"'), ("b", "=cmd|x")])
    assert read_reasons(path) == [("=1+1.png", 'why \\udce9, "so"'), ("b", "=cmd|x")]
    with open(path, newline="", encoding="utf-8-sig") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith("=")]
    assert path.read_bytes().startswith(b"\xef\xbb\xbfpath,reason")


def test_another_table_is_no_table_of_reasons(tmp_path):
    write_csv(tmp_path / "t.csv", ["a", "b"], [(1, 2)])
    with pytest.raises(KeyError, match="path and reason"):
        read_reasons(tmp_path / "t.csv")


def test_a_table_that_fails_half_way_leaves_the_old_one(tmp_path):
    path = tmp_path / "t.csv"
    write_csv(path, ["a"], [(1,)])

    def rows():
        yield (2,)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_csv(path, ["a"], rows())
    assert path.read_text(encoding="utf-8-sig").split() == ["a", "1"]
