"""Lengths and learning rates compared with values by hand and with schedules of PyTorch."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from napari_sslseg.core.common.compute.devices import make_fabric
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.events import Message, Step, Validation
from napari_sslseg.core.runs.run import RunWriter
from napari_sslseg.core.settings.training import EarlyStopping, Training
from napari_sslseg.core.training.job import TrainingJob
from napari_sslseg.core.training.sampler import shuffled_batches
from napari_sslseg.core.training.schedules import (
    Schedule,
    learning_rate_factor,
    make_optimizer,
    validation_interval,
    with_steps,
)
from napari_sslseg.core.training.train import train


def test_the_step_decay_of_the_paper():
    settings = Training(steps=10_000, learning_rate=1e-3, schedule="step-decay")
    rates = [1e-3 * learning_rate_factor(settings, step, 10) for step in range(0, 80, 10)]
    # Epoch 0, then a drop after it and after every second epoch: 0.9^⌊(1 + e) / 2⌋.
    expected = [1e-3 * 0.9**n for n in (0, 1, 1, 2, 2, 3, 3, 4)]
    assert rates == pytest.approx(expected)
    assert 1e-3 * learning_rate_factor(settings, 100_000, 10) == pytest.approx(1e-8)


def test_warm_up_rises_and_then_falls_to_zero():
    settings = Training(steps=100, warmup=0.1)
    factors = [learning_rate_factor(settings, step, 10) for step in range(100)]
    assert factors[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert factors[10] == 1
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert factors[-1] == pytest.approx((1 / 90) ** 0.9)


def test_cosine_restarts_by_hand():
    settings = Training(schedule="cosine-restarts", restart_every=2)
    # Two epochs of four steps: eight steps from the full rate nearly to 0, and again.
    factors = [learning_rate_factor(settings, step, 4) for step in range(9)]
    assert factors[0] == factors[8] == 1
    assert factors[4] == pytest.approx(0.5)
    assert factors[2] == pytest.approx((1 + 2**-0.5) / 2)
    assert factors[7] == pytest.approx((1 + np.cos(7 * np.pi / 8)) / 2)


def test_cosine_restarts_are_those_of_pytorch_with_fractions_of_epochs():
    settings = Training(schedule="cosine-restarts", restart_every=10, learning_rate=1e-4)
    optimizer = torch.optim.Adam(nn.Linear(1, 1).parameters(), lr=1e-4)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10, T_mult=1)
    per_epoch = 7
    for step in range(25 * per_epoch):
        theirs.step(step / per_epoch)
        ours = 1e-4 * learning_rate_factor(settings, step, per_epoch)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)


def plateau(values, better, patience=2):
    settings = Training(schedule="plateau", plateau_patience=patience, learning_rate=1.0)
    optimizer = make_optimizer(nn.Linear(1, 1), settings)
    schedule = Schedule(optimizer, settings, 1, better)
    rates = []
    for value in values:
        schedule.step()
        schedule.validated(value)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_the_rate_is_halved_on_a_plateau():
    # The rate is halved at the third validation without improvement.
    values = [5.0, 4.0, 4.1, 4.2, 4.3, 3.0, 3.0, 3.0, 3.0]
    rates = [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]
    assert plateau(values, "lower") == rates
    assert plateau([10 - v for v in values], "higher") == rates
    assert plateau([1.0, 1.0], "lower", patience=0) == [1, 0.5]


def test_epochs_become_steps():
    assert with_steps(Training(steps=7), 10) == Training(steps=7)
    found = with_steps(Training(steps=7, epochs=30), 11)
    assert found == Training(steps=330, epochs=30)
    with pytest.raises(ConfigError, match="fewer epochs"):
        with_steps(Training(epochs=1_000_000), 1000)


def test_the_validation_interval():
    assert validation_interval(Training(steps=1000), 10) == 50
    assert validation_interval(Training(steps=1000), 100) == 100
    assert validation_interval(Training(steps=1000, epochs=100), 10) == 10
    assert validation_interval(Training(steps=1000, epochs=100, validate_every=3), 10) == 3


def test_the_optimisers():
    adam = make_optimizer(
        nn.Linear(1, 1), Training(learning_rate=0.1, betas=(0.99, 0.995), weight_decay=1e-2)
    )
    assert type(adam) is torch.optim.Adam
    values = adam.param_groups[0]
    assert (values["lr"], values["betas"], values["eps"]) == (0.1, (0.99, 0.995), 1e-8)
    assert values["weight_decay"] == 1e-2
    sgd = make_optimizer(nn.Linear(1, 1), Training(optimizer="sgd", weight_decay=3e-5))
    assert type(sgd) is torch.optim.SGD
    assert (sgd.param_groups[0]["momentum"], sgd.param_groups[0]["nesterov"]) == (0.99, True)
    assert sgd.param_groups[0]["weight_decay"] == 3e-5


def run(folder, settings, validate=None, **options):
    model = nn.Linear(1, 1)
    job = TrainingJob(
        model=model,
        settings=settings,
        batches=shuffled_batches(np.arange(8), 2),
        steps_per_epoch=4,
        loss=lambda model, indices, generator: model(torch.ones(1, 1)).square().sum(),
        validate=validate,
    )
    writer = RunWriter(folder, {"kind": "pretrain", "settings": {}})
    return list(train(replace(job, **options), writer, make_fabric("cpu")))


def test_a_training_on_a_plateau_continues_at_half_the_rate(tmp_path):
    settings = with_steps(Training(epochs=5, schedule="plateau", plateau_patience=1), 4)
    events = run(tmp_path, settings, lambda model: {"loss": 1.0})
    assert [e.step for e in events if isinstance(e, Validation)] == [4, 8, 12, 16, 20]
    rates = [e.learning_rate for e in events if isinstance(e, Step)]
    assert rates == [1e-3] * 12 + [5e-4] * 8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedule": "plateau"}, "plateau"),
        (
            {"early_stopping": EarlyStopping(min_delta=50, patience=4)},
            "early stopping",
        ),
    ],
)
def test_settings_without_effect_are_reported_once(tmp_path, options, words):
    events = run(tmp_path, Training(steps=6, learning_rate=1e-3, **options))
    messages = [event.text for event in events if isinstance(event, Message)]
    assert len(messages) == 1
    assert words in messages[0]
    rates = {event.learning_rate for event in events if isinstance(event, Step)}
    assert len(rates) == (1 if "schedule" in options else 6)


def test_the_progress_is_reported_once_per_epoch(tmp_path):
    progress = []
    run(tmp_path / "1", with_steps(Training(epochs=5), 4), begin_epoch=progress.append)
    assert progress == [0, 0.25, 0.5, 0.75, 1]
    progress.clear()
    run(tmp_path / "2", Training(steps=3), begin_epoch=progress.append)
    assert progress == [0]
