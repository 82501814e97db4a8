"""The choices of the training form equal those of core."""

from typing import get_args

from napari_sslseg.core.settings.networks import DEFAULT_NETWORK, NETWORKS, named_network
from napari_sslseg.core.settings.stages import FinetuneSettings, Strategy, Transfer
from napari_sslseg.core.settings.training import FINETUNE_STEPS, PRETRAIN_STEPS
from napari_sslseg.gui.model.run_choices import LENGTHS, kind_dimensions
from napari_sslseg.gui.train.training_choice import STRATEGY_TEXTS, TRANSFER_TEXTS, TrainingChoice


def test_the_defaults_equal_those_of_core():
    choice, settings = TrainingChoice(), FinetuneSettings()
    assert (choice.strategy, choice.transfer) == (settings.strategy, settings.transfer)
    assert (choice.loss, choice.batch_size) == (settings.loss, None)
    assert choice.learning_rate == settings.training.learning_rate
    assert named_network(DEFAULT_NETWORK) == settings.network
    assert LENGTHS["finetune"][choice.length] == FINETUNE_STEPS
    assert LENGTHS["pretrain"]["usual"] == PRETRAIN_STEPS


def test_each_strategy_and_transfer_of_core_has_a_text():
    assert set(STRATEGY_TEXTS) == set(get_args(Strategy))
    assert set(TRANSFER_TEXTS) == set(get_args(Transfer))


def test_the_dimensions_of_a_run_follow_from_its_kind_of_network():
    for name in NETWORKS:
        network = named_network(name)
        assert kind_dimensions(network.kind) == network.dimensions
    assert kind_dimensions(None) == 2
