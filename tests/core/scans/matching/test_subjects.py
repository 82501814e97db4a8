"""The patients are guessed from all names of a set together."""

import random

import pytest
from hypothesis import given, settings, strategies as st

from napari_sslseg.core.scans.matching.subjects import (
    describe_subjects,
    guess_subject,
    guess_subjects,
)


def groups(paths):
    """Numbers of the scans of each patient."""
    subjects = guess_subjects(paths).subjects
    return sorted(
        sorted(n for n, other in enumerate(subjects) if other == subject)
        for subject in set(subjects)
    )


def grid(pattern, patients, scans):
    """Names by patient, and the groups that are expected."""
    names = [pattern.format(p=p, s=s) for p in patients for s in scans]
    size = len(scans)
    return names, [list(range(n, n + size)) for n in range(0, len(names), size)]


EACH_ITS_OWN = {
    "MSD": [f"liver_{i}" for i in range(131)],
    "MSD padded": [f"hippocampus_{i:03d}" for i in (1, 3, 4, 6, 7, 8, 10, 11, 14, 15, 17, 19, 20)],
    "MSD few": [f"prostate_{i:02d}" for i in (0, 1, 2, 4, 6, 7, 10, 13, 14, 16, 18)],
    "LiTS": [f"volume-{i}" for i in range(28)],
    "one site": [f"site1_{i:04d}" for i in range(1, 10)],
    "two sites": [f"site{s}_{i:04d}" for s in (1, 2) for i in range(1, 10)],
    "folders of sites": [f"site{s}/{i:03d}/ct.nii.gz" for s in "AB" for i in (1, 2, 3)],
    "TotalSegmentator": [f"ts/s{i:04d}/ct.nii.gz" for i in range(4)],
    "KiTS": [f"case_{i:05d}/imaging.nii.gz" for i in range(12)],
    "OASIS by neurite": [f"OASIS_OAS1_{i:04d}_MR1/aligned_norm.nii.gz" for i in (1, 2, 3)],
    "TCIA": ["TCGA-02-0003", "TCGA-02-0006", "TCGA-02-0009", "TCGA-06-0119", "TCGA-06-0122"],
    "LIDC": [f"LIDC-IDRI-{i:04d}" for i in range(1, 30)],
    "IXI": ["IXI002-Guys-0828-T1", "IXI012-HH-1211-T1", "IXI013-HH-1212-T1", "IXI015-HH-1258-T1"],
    "AMOS": [f"amos_{i:04d}" for i in (4, 5, 6, 7, 9, 10, 11, 14, 15, 16, 17, 18, 19, 21, 22)],
    "WORD": [f"word_{i:04d}" for i in (2, 4, 5, 6, 7, 8, 10)],
    "PROMISE12": [f"Case{i:02d}" for i in range(50)],
    "nnU-Net, one channel": [f"case_{i:03d}_0000" for i in range(4)],
    "nnU-Net without number": [f"case_{i:04d}" for i in range(20)],
    "Sunnybrook": ["SC-HF-I-01", "SC-HF-I-02", "SC-HYP-01", "SC-N-02"],
    "radiogenomics": [f"{p}-{i:03d}" for p in ("R01", "AMC") for i in range(1, 40)],
    "volunteers": [f"study_v{i:02d}" for i in range(1, 9)],
    "letters": ["a", "b", "c"],
    "UIDs": ["1.2.840.113619.2.1", "1.2.840.113619.2.2"],
    "sites of a study": ["study1_anna", "study1_bert", "study2_anne", "study2_carl"],
    "one head": ["exp7_anna", "exp7_bert"],
    "fastMRI": [f"file{i}" for i in (1000001, 1000002, 1000007)],
    "examinations are patients": [f"exam_{i:03d}/ct.nii.gz" for i in (1, 2, 3)],
    "numbers of patients by Windows": [f"Pat ({i})" for i in range(1, 5)],
    "mice by time point": ["mouse1_a", "mouse2_a", "mouse3_a"],
    "CHAOS": [f"MR/{i}/T1DUAL/x.nii.gz" for i in (1, 2, 3)],
}

SEVERAL = {
    "time points in one number": grid("genius_0{p}0{s}", (7, 8, 9), range(3)),
    "BraTS": grid("BraTS20_Training_{p:03d}_{s}", range(1, 20), ("flair", "t1", "t1ce", "t2")),
    "BraTS in folders": grid("B_{p:03d}/B_{p:03d}_{s}.nii.gz", range(1, 5), ("flair", "t1")),
    "ACDC": grid("patient{p:03d}_frame{s:02d}", range(1, 12), (1, 12)),
    "BIDS": grid("sub-{p:02d}_ses-{s:02d}_T1w", range(3), (1, 2)),
    "BIDS in folders": grid("data/sub-{p}/ses-{s}/anat/T1w.nii.gz", range(3), (1, 2)),
    "M&Ms": grid("{p}_sa_{s}", ("A0S9V9", "A1D0Q7"), ("ED", "ES")),
    "OASIS": grid("OAS1_{p:04d}_MR{s}", range(1, 9), (1, 2)),
    "Prostate158": grid("{p:03d}/{s}.nii.gz", (20, 21, 22), ("t2", "adc", "dwi")),
    "nnU-Net channels": grid("brats_{p:03d}_{s:04d}", range(4), range(3)),
    "ISBI longitudinal": grid("training{p:02d}_{s:02d}_flair_pp", (1, 2, 3), (1, 2, 3, 4)),
    "time points": grid("P{p}_tp{s}", (1, 2, 3), (1, 2)),
    "visits": grid("P{p}_V{s}", (1, 2, 3), (1, 2)),
    "words of visits": grid("P{p}_{s}", (1, 2, 3), ("baseline", "followup")),
    "names of patients": grid("{p}_v{s}", ("anna", "bert"), (1, 2)),
    "visits in folders": grid("P{p}/visit{s}/t1.nii.gz", (1, 2), (1, 2)),
    "dates": grid("P{p}_{s}", (1, 2), (20200131, 20210501)),
    "sides": grid("knee_{p}_{s}", (9001, 9002), ("L", "R")),
    "letters": grid("P{p:02d}{s}", (1, 2), ("a", "b")),
    "leading sequence": ([f"{s}_{p:03d}" for p in (1, 2) for s in ("T1", "T2")], [[0, 1], [2, 3]]),
    "number of the scan": grid("pat_{p:02d}_scan_{s}", (1, 2, 3), (1, 2)),
    "same names in folders": grid("p_{p}/scan{s}.nii.gz", "xyz", (1, 2)),
    "unknown words": grid("MRN{p}_{s}", (1001, 1002), ("A1", "B2", "xy")),
    "ADNI": grid("ADNI_{p}_{s}", ("002_S_0413", "002_S_0619", "005_S_0221"), ("bl", "m12")),
    "before and after": grid("P{p:03d}_{s}", (1, 2), ("pre_op", "post_op")),
    "phases": grid("case{p:02d}_{s}", (1, 2), ("art", "pv")),
    "times": grid("P{p}_{s}", (1, 2), ("20200101T101500", "20210101T111500")),
    "LUMIERE": grid("Patient-{p:03d}/{s}/CT1.nii.gz", (1, 2), ("week-000-1", "week-044")),
    "frames and channels": grid("patient{p:03d}_frame{s:02d}_0000", (1, 2), (1, 12)),
    "dots": grid("P{p}.visit{s}", (1, 2), (1, 2)),
    "blanks": grid("Patient {p} {s}", (1, 2), ("T1", "T2")),
    "German dates": grid("{p}_{s}", ("Meier", "Schulz"), ("01.03.2019", "15.04.2020")),
    "leading dates": grid("{s}_{p}", ("AB", "CD"), ("20190301", "20200415")),
    "leading visits": grid("{s}_P{p:02d}", (1, 2), ("baseline", "followup")),
    "leading phases": grid("{s}_P{p:02d}", (1, 2), ("pre", "post")),
    "leading numbers of scans": grid("mr{s}_P{p:02d}", (1, 2), (1, 2)),
    "leading short visits": grid("V{s}_pat{p:02d}", (1, 2), (1, 2)),
    "sides without separator": grid("P{p}{s}", (1, 2), ("L", "R")),
    "one patient again": (["p01", "p01_2", "p02", "p03"], [[0, 1], [2], [3]]),
    "copies by Windows": (["p01", "p01 (2)", "p02", "p02 (2)"], [[0, 1], [2, 3]]),
    "case of the name": (["P01", "p01_T2", "P02"], [[0, 1], [2]]),
    "accents": (["M\u00fcller", "Mu\u0308ller_T2", "Schulz"], [[0, 1], [2]]),
    "folders of years": grid("{p}/{s}/T2.nii", ("Meier", "Schulz"), (2019, 2020)),
    "folders of examinations": grid("Pat {p}/Untersuchung {s}/T2.nii", (1, 2), (1, 2)),
    "folders around an operation": grid("{p}/{s}/T2.nii", ("A", "B"), ("vor OP", "nach OP")),
    "years outside": (
        ["2019/Meier/T2.nii", "2020/Meier/T2.nii", "2019/Schulz/T2.nii"], [[0, 1], [2]]
    ),
    "folders with numbers": (["p1/abc.nii", "p1/abd.nii", "p2/x.nii"], [[0, 1], [2]]),
    "one patient twice": (
        [f"BraTS-GLI-{number}" for number in ("00000-000", "00002-000", "00008-000", "00008-001")],
        [[0], [1], [2, 3]],
    ),
    "PI-CAI": (
        ["10000_1000000_t2w", "10001_1000001_t2w", "10005_1000005_t2w", "10005_1000006_t2w"],
        [[0], [1], [2, 3]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("names", EACH_ITS_OWN.values(), ids=EACH_ITS_OWN)
def test_each_scan_is_a_patient(names):
    assert len(groups(names)) == len(names)


@pytest.mark.parametrize(("names", "expected"), SEVERAL.values(), ids=SEVERAL)
def test_scans_of_one_patient_are_together(names, expected):
    assert groups(names) == expected


@pytest.mark.parametrize("names", [*EACH_ITS_OWN.values(), *(n for n, _ in SEVERAL.values())])
def test_the_order_of_the_names_does_not_matter(names):
    shuffled = random.Random(0).sample(names, len(names))
    before = dict(zip(names, guess_subjects(names).subjects, strict=True))
    assert dict(zip(shuffled, guess_subjects(shuffled).subjects, strict=True)) == before


@pytest.mark.parametrize(
    "scheme",
    ["genius_0{p}0{s}", "BraTS-GLI-0000{p}-00{s}", "training0{p}_0{s}", "P0{p}/x{s}.nii.gz"],
)
def test_a_reading_that_is_not_sure_is_told_or_the_folder_shows_it(scheme):
    names, _ = grid(scheme, (7, 8, 9), (0, 1, 2))
    guess = guess_subjects(names)
    assert len(set(guess.subjects)) == 3
    assert guess.doubts or "/" in scheme
    if guess.doubts:
        assert any(name in guess.doubts[0] for name in names)


@settings(max_examples=60, deadline=None)
@given(
    pattern=st.sampled_from(
        ["p{p:03d}_{w}", "pat{p:02d}-{w}", "{p:04d}/{w}.nii.gz", "sub-{p:03d}_{w}", "x/{p:03d}_{w}"]
    ),
    patients=st.sets(st.integers(1, 60), min_size=2, max_size=8),
    words=st.sets(
        st.sampled_from(["T1w", "t2", "FLAIR", "adc", "ED", "baseline", "tp1", "tp2", "V2", "pre"]),
        min_size=1,
        max_size=4,
    ),
    data=st.data(),
)  # fmt: skip
def test_words_and_missing_scans_never_split_a_patient(pattern, patients, words, data):
    whole = [(p, pattern.format(p=p, w=w)) for p in sorted(patients) for w in sorted(words)]
    kept = data.draw(st.sets(st.sampled_from(range(len(whole))), min_size=1))
    subjects = guess_subjects(whole[n][1] for n in kept).subjects
    of_patient = {}
    for n, subject in zip(kept, subjects, strict=True):
        assert of_patient.setdefault(whole[n][0], subject) == subject


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(alphabet="ab01_-./ T", min_size=1, max_size=12), max_size=12))
def test_any_names_give_one_subject_each(names):
    guess = guess_subjects(names)
    assert len(guess.subjects) == len(names)
    # The same name is never two patients.
    assert len(set(zip(names, guess.subjects, strict=True))) == len(set(names))


def test_a_single_name_is_read_as_far_as_it_tells():
    assert guess_subject("SC-HYP-01_ED") == "SC-HYP-01"
    assert guess_subject("s0000/ct.nii.gz") == "s0000"
    assert guess_subject("site1_0001") == "site1_0001"


def test_many_names_take_no_time():
    names = [f"case_{i:05d}_{s:04d}" for i in range(2500) for s in range(2)]
    assert len(set(guess_subjects(names).subjects)) == 2500


def test_the_description_counts_patients():
    assert describe_subjects(["a", "a"]).startswith("2 scans of 1 patient: all")
    assert "each scan" in describe_subjects(["a", "b"])
    assert describe_subjects(["a", "a", "b"]) == "3 scans of 2 patients."
