"""Tables that a user writes: a quote that is not closed is said, and hides no lines."""

import numpy as np
import pytest

from command_line import refused, run
from napari_sslseg.core.common.errors import ConfigError, DataError
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.scans.classes.class_map import ClassMap
from napari_sslseg.core.scans.classes.partial_labels import read_labelled_classes
from napari_sslseg.core.scans.labels import save_labels
from napari_sslseg.core.scans.matching.patients import read_patients

ROWS = {"few": 2, "too many for a cell": 9000}


def unclosed(path, head, row, count):
    path.write_text(f'{head}\np0,"1\n' + f"{row}\n" * count)
    return path


@pytest.mark.parametrize("count", ROWS.values(), ids=ROWS)
def test_a_quote_that_is_not_closed_is_refused(tmp_path, count):
    table = unclosed(tmp_path / "patients.csv", "scan,patient", "p1,a longer name of it", count)
    with pytest.raises(DataError, match="quote"):
        read_patients(table)
    table = unclosed(tmp_path / "labelled.csv", "scan,classes", "p1,1 2 3 4 5 6 7 8 9 10", count)
    with pytest.raises(DataError, match="quote"):
        read_labelled_classes(table)
    table = unclosed(tmp_path / "classes.csv", "name,class", "Leber rechts oben,liver", count)
    with pytest.raises(ConfigError, match="quote"):
        ClassMap.of(table)


def test_the_command_line_says_it(tmp_path):
    scan, _ = make_patient(0, "MR", (10, 24, 24), (20.0, 15.0, 15.0))
    save_labels(np.maximum(scan.data, 0), tmp_path / "p0.nii.gz", like=scan)
    table = unclosed(tmp_path / "patients.csv", "scan,patient", "p1,1", 40000)
    assert refused(run("series", tmp_path / "p0.nii.gz", "--patients", table), table.name, "quote")


def test_quotes_that_are_closed_are_read(tmp_path):
    table = tmp_path / "patients.csv"
    table.write_text('scan,patient\n"p0","Ann, ""A"""\np1,5" tall\n')
    assert read_patients(table) == {"p0": 'Ann, "A"', "p1": '5" tall'}
