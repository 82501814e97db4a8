"""Structures of several label files become classes by name and code, or are asked for."""

import json
import unicodedata

import pytest

from napari_sslseg.core.common.errors import ClassesError, ConfigError
from napari_sslseg.core.scans.classes.class_map import ClassMap
from napari_sslseg.core.scans.classes.matching import LabelFile, match_segments
from napari_sslseg.core.scans.classes.segment import Segment, code_text, fold_class

LIVER, SPLEEN = "SCT:10200004", "SCT:78961009"


def file(name, *segments, values=None):
    return LabelFile(
        name,
        tuple(Segment(*(part if isinstance(part, tuple) else (part,))) for part in segments),
        None if values is None else lambda: values,
    )


def named(name, **names):
    return file(name, *((value, text) for text, value in names.items()))


def test_names_decide_not_values():
    match = match_segments([named("p0", liver=1, spleen=2), named("p1", spleen=1, liver=2)])
    assert match.names == {1: "liver", 2: "spleen"}
    assert match.values == ({1: 1, 2: 2}, {1: 2, 2: 1})


def test_a_file_without_a_class_keeps_the_others_right():
    match = match_segments(
        [named("p0", Liver=1, Spleen=2, Kidney=3), named("p1", Liver=1, Kidney=2)]
    )
    assert match.values[1] == {1: 1, 2: 3}
    assert "Spleen (not in p1)" in match.notes[0]


@pytest.mark.parametrize(
    "other",
    [
        "LEFT KIDNEY", " left  kidney ", "left_kidney", "Left\u00a0Kidney", "\ufeffleft kidney",
        "LeftKidney",
    ],
)  # fmt: skip
def test_case_and_blanks_do_not_matter(other):
    match = match_segments([named("a", **{"left kidney": 1}), file("b", (4, other))])
    assert match.values[1] == {4: 1}


@pytest.mark.parametrize("other", ["kidney_left", "Kidney, left", "left-kidney"])
def test_the_same_words_in_another_order_are_offered(tmp_path, other):
    files = [named("a", **{"left kidney": 1, "liver": 2}), file("b", (4, other), (5, "Liver"))]
    with pytest.raises(ClassesError, match="has the same words as left kidney") as caught:
        match_segments(files)
    table = caught.value.table.splitlines()
    assert [line for line in table if line.endswith(",left kidney")]
    # The table can be used as it is.
    (tmp_path / "classes.csv").write_text(caught.value.table)
    match = match_segments(files, tmp_path / "classes.csv")
    assert match.values[1] == {4: 1, 5: 2}
    # A file that has both names means two structures.
    both = [files[0], file("b", (4, other), (5, "left kidney"))]
    assert match_segments(both).values[1] == {4: 4, 5: 1}


def test_accents_are_equal_in_both_encodings():
    composed = "Gefäß µ"
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed
    assert fold_class(composed) == fold_class(decomposed)
    match = match_segments([file("a", (1, composed)), file("b", (7, decomposed))])
    assert match.values[1] == {7: 1}


def test_equal_codes_are_one_class_and_it_is_said():
    match = match_segments(
        [file("a", (1, "Liver", LIVER), (2, "Spleen", SPLEEN)), file("b", (1, "Milz", SPLEEN))]
    )
    assert match.values[1] == {1: 2}
    assert any("Milz" in note and "Spleen" in note for note in match.notes)


def test_a_code_that_a_file_has_twice_decides_nothing():
    match = match_segments(
        [file("a", (1, "Liver", LIVER)), file("b", (1, "lesion 1", LIVER), (2, "lesion 2", LIVER))]
    )
    assert match.names == {1: "Liver", 2: "lesion 1", 3: "lesion 2"}


def test_codes_such_as_tissue_say_nothing():
    assert code_text(("85756007", "SCT")) == ""
    assert code_text(("T-D0050", "SRT")) == ""


def test_old_snomed_codes_are_those_of_snomed_ct():
    assert code_text(("T-62000", "SRT")) == LIVER
    left = code_text(("64033007", "SCT"), ("7771000", "SCT"))
    assert left != code_text(("64033007", "SCT"), ("24028007", "SCT"))


@pytest.mark.parametrize(
    "files",
    [
        [named("p0", liver=1), file("p1", values=[1, 2])],
        [named("p0", liver=1), file("p1", (1, "Segment_1"), values=[1])],
        [file("p0", (1, "Liver", LIVER)), file("p1", (1, "liver", SPLEEN))],
        [named("p0", liver=1), file("p1", (1, "Liver"), (2, "liver "))],
        [named("p0", liver=1), file("p1", (1, "liver"), (2, ""))],
        [file("p0", (1, "Segment_1"), (2, "Segment_2")), file("p1", (1, "Segment_2"), values=[1])],
    ],
    ids=["no names", "placeholders", "other code", "twice", "one nameless", "placeholders differ"],
)
def test_what_is_not_clear_is_refused_with_the_table_to_fill_in(files, tmp_path):
    with pytest.raises(ClassesError) as caught:
        match_segments(files)
    table = caught.value.table
    assert "p1" in caught.value.sentence or "p0" in caught.value.sentence
    path = tmp_path / "map.csv"
    path.write_text(table)
    with pytest.raises(ConfigError, match="no class"):
        match_segments(files, path)
    # Filled in, the same table is accepted.
    lines = [f"{line}liver" if line.endswith(",") else line for line in table.splitlines()]
    path.write_text("\n".join(lines))
    assert match_segments(files, path).names


def test_all_files_without_names_are_matched_by_value():
    match = match_segments([file("a", values=[1, 2]), file("b", (1, "class 1"), values=[1])])
    assert match.names == {}
    assert match.values == (None, None)


def test_an_empty_file_without_names_is_no_conflict():
    assert match_segments([named("a", liver=1), file("b", values=[])]).names == {1: "liver"}


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".csv", "file,value,name,class\n,,Leber,liver\n,,BODY,-\n"),
        (".csv", "\ufeffname;class\r\nLeber;liver\r\nbody;-\r\n"),
        (".tsv", "name\tclass\nLEBER\tliver\nBODY\t-\n"),
        (".json", json.dumps({"Leber": "liver", "BODY": None})),
        (".json", "\ufeff" + json.dumps([{"name": "Leber", "class": "liver"},
                                         {"name": "BODY", "class": "-"}])),
        (".json", json.dumps({"p1": {"Leber": "liver", "BODY": 0}})),
    ],
)  # fmt: skip
def test_a_class_map_is_read_from_csv_or_json(tmp_path, suffix, text):
    path = tmp_path / f"map{suffix}"
    path.write_text(text, encoding="utf-8")
    files = [named("p0", liver=1), named("p1", BODY=1, Leber=2)]
    match = match_segments(files, path)
    assert match.values == ({1: 1}, {1: 0, 2: 1})


def test_a_row_for_one_file_overrides_the_row_for_all():
    files = [named("p0", mass=1), named("p1", mass=1)]
    said = ClassMap.of({"mass": "cyst", "p1": {"mass": "tumour"}})
    assert match_segments(files, said).values == ({1: 1}, {1: 2})


def test_values_without_names_get_classes_by_the_map():
    files = [file("aseg", values=[17, 53, 1035])]
    match = match_segments(files, {17: "hippocampus", 53: "hippocampus", "*": None}, largest=254)
    assert match.values == ({17: 17, 53: 17, 1035: 0},)
    match = match_segments(files, {17: 1, 53: 2, 1035: "insula"}, largest=254)
    assert match.values == ({17: 1, 53: 2, 1035: 3},)
    assert match.names == {3: "insula"}


def test_a_number_means_the_class_that_has_it():
    match = match_segments([named("p0", liver=1, spleen=2), file("p1", values=[5])], {5: 2})
    assert match.names == {1: "liver", 2: "spleen"}
    assert match.values[1] == {5: 2}


def test_a_value_that_the_list_of_names_lacks_gets_a_class():
    p0 = file("p0", (1, "liver"), values=[1, 2])
    match = match_segments([p0], {2: "spleen"})
    assert (match.names, match.values) == ({1: "liver", 2: "spleen"}, ({1: 1, 2: 2},))
    assert not match.notes
    with pytest.raises(ClassesError) as error:
        match_segments([p0, file("p1", (1, "liver"), values=[1, 3])], {2: "spleen"})
    assert ",3,," in error.value.table


@pytest.mark.parametrize(
    ("name", "option"),
    [("ignore", "--ignore-value 2"), ("Ignore", "ignore=2"), ("background", "background=2")],
)
def test_unknown_voxels_and_background_are_no_classes_by_a_guess(name, option):
    files = [named("p0", **{"liver": 1, name: 2})]
    with pytest.raises(ClassesError, match=option):
        match_segments(files)
    assert match_segments(files, {name: None}).values == ({1: 1, 2: 0},)


def test_names_that_say_nothing_beside_others_are_said():
    files = [named("p0", liver=1, Segment_2=2), named("p1", liver=1, Segment_2=2)]
    match = match_segments(files)
    assert match.values == ({1: 1, 2: 2}, {1: 1, 2: 2})
    assert any("Segment_2" in note and "p0, p1" in note for note in match.notes)
    assert not match_segments(files, {"Segment_2": "spleen"}).notes
    assert not match_segments(files[:1]).notes


def test_rows_that_match_nothing_are_said():
    match = match_segments([named("p0", liver=1)], {"livre": "liver", "liver": "liver"})
    assert any("livre" in note for note in match.notes)


@pytest.mark.parametrize(
    "text",
    [
        "", "name,class\n", "name,klass\na,b\n", "name,class\nliver,\n", "value,class\nx,1\n",
        "file,class\np0,liver\n", "name,class\nliver,a\nliver,b\n",
    ],
)  # fmt: skip
def test_a_malformed_class_map_is_refused(tmp_path, text):
    path = tmp_path / "map.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"map\.csv"):
        match_segments([named("p0", liver=1)], path)


def test_known_classes_keep_their_values():
    known = [Segment(5, "Liver"), Segment(1, "spleen")]
    match = match_segments([named("p", liver=1, kidney=5)], known=known)
    assert match.values == ({1: 5, 5: 2},)
    assert match.names == {1: "spleen", 2: "kidney", 5: "Liver"}


def test_default_names_in_all_files_are_said_since_numbers_decide():
    files = [file(name, (1, "Segment_1"), (2, "Segment_2")) for name in ("p0", "p1")]
    match = match_segments(files)
    assert match.values == (None, None)
    (note,) = match.notes
    assert "Segment_1" in note
    assert match_segments(files[:1]).notes == ()
    assert match_segments([file("p0", values=[1]), file("p1", values=[1])]).notes == ()
