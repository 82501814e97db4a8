import pytest
import torch

from napari_sslseg.core.pretext.corruptions.boxes import MOST_BOXES, Boxes, draw_boxes, topmost

CPU = torch.device("cpu")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def painted(boxes, size):
    """Bits of the boxes over each pixel, painted one box after the other."""
    out = torch.zeros(len(boxes), *size, dtype=torch.int64)
    for image, (corners, sides) in enumerate(zip(boxes.corners, boxes.sides, strict=True)):
        for bit, box in enumerate(zip(corners.tolist(), sides.tolist(), strict=True)):
            out[(image, *(slice(c, c + s) for c, s in zip(*box, strict=True)))] |= 1 << bit
    return out


def test_covering_and_topmost_by_hand():
    boxes = Boxes(torch.tensor([[[0, 0], [1, 1]]]), torch.tensor([[[2, 2], [2, 3]]]))
    covering = boxes.covering((3, 4), CPU)
    assert covering[0].tolist() == [[1, 1, 0, 0], [1, 3, 2, 2], [0, 2, 2, 2]]
    assert topmost(covering)[0].tolist() == [[0, 0, -1, -1], [0, 0, 1, 1], [-1, 1, 1, 1]]


def test_bits_equal_painting_box_by_box():
    counts = torch.tensor([0, 1, 30, MOST_BOXES])
    boxes = draw_boxes(counts, MOST_BOXES, (31, 45), ((1, 20), (3, 45)), generator())
    covering = boxes.covering((31, 45), CPU)
    assert torch.equal(covering, painted(boxes, (31, 45)))
    assert (covering[0] == 0).all()
    assert int(covering.max()) >= 1 << 61  # the last bit works
    lowest = [
        [[(bits & -bits).bit_length() - 1 for bits in row] for row in image]
        for image in covering.tolist()
    ]
    assert topmost(covering).tolist() == lowest


def test_boxes_in_volumes_equal_painting_box_by_box():
    size = (9, 14, 11)
    counts = torch.tensor([0, 3, MOST_BOXES])
    boxes = draw_boxes(counts, MOST_BOXES, size, [(1, 5), (2, 14), (3, 4)], generator())
    covering = boxes.covering(size, CPU)
    assert torch.equal(covering, painted(boxes, size))
    assert (covering[1] != 0).any()
    ends = boxes.corners + boxes.sides
    assert (ends <= torch.tensor(size)).all()


def test_sides_and_places_reach_their_bounds_and_stay_within():
    counts = torch.full((4000,), 2)
    boxes = draw_boxes(counts, 3, (12, 20), ((2, 4), (5, 20)), generator())
    used = boxes.sides[:, :2].flatten(0, 1)
    assert used.amin(0).tolist() == [2, 5]
    assert used.amax(0).tolist() == [4, 20]
    assert (boxes.sides[:, 2] == 0).all()
    ends = (boxes.corners + boxes.sides)[:, :2].flatten(0, 1)
    assert boxes.corners.min() == 0
    assert ends.amax(0).tolist() == [12, 20]


def test_more_boxes_than_bits_are_refused():
    with pytest.raises(ValueError, match="at most 62"):
        draw_boxes(torch.tensor([1]), 63, (8, 8), ((1, 2), (1, 2)), generator())
