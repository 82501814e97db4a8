"""Pretrain by context restoration, fine-tune on two labelled scans, predict, score.

Runs on phantom patients in a few minutes on a laptop: python examples/context_restoration.py
"""

import tempfile
from pathlib import Path

from napari_sslseg import core


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    core.write_dataset(folder, n=8, modality="MR")

    # Pretrain a network on unlabelled scans.
    task = core.ContextRestoration(patch_size=8, sampling="poisson-disc")
    training = core.Training(steps=300, batch_size=4)
    pretrained = core.pretrain(
        folder / "images",
        task,
        out=folder / "pretrained",
        settings=core.PretrainSettings(training=training),
    )

    # A few labelled scans; of the second one only three slices are annotated.
    pairs = core.pair_scans(folder / "images", folder / "labels")
    first, second, *others = pairs
    labelled = [first, core.LabelledScan(second.scan, second.labels, annotated=(8, 12, 16))]
    model = core.finetune(
        labelled,
        init=pretrained,
        out=folder / "finetuned",
        settings=core.FinetuneSettings(training=training),
    )

    # Predict the other scans, on their own grid, and compare with their true labels.
    scores = []
    for item in others:
        scan, truth = item.load()
        prediction = core.predict(model, scan)
        core.save_labels(prediction, folder / "predictions" / f"{scan.name}.nii.gz")
        scores.append(core.evaluate(prediction, truth))
    for value, score in core.summarize(scores).classes.items():
        print(f"{core.PHANTOM_CLASSES[value]}: Dice {score.dice}, HD95 {score.hd95_mm} mm")
    print(f"Results: {folder}")


if __name__ == "__main__":
    main()
