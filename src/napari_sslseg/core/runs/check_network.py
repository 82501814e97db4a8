"""Check the network in the record of a run before it is built or its weights are read."""

from napari_sslseg.core.common.errors import CheckpointError, ConfigError
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.networks.size_limit import Shapes, planned_network, tensor_shapes
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.runs.weights.safetensors_header import misfits, read_header
from napari_sslseg.core.samples.build import sample_dimensions
from napari_sslseg.core.settings.networks import NetworkSettings, check_dimensions
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing

PARTS = ("encoder.", "decoder.")


def check_run_network(
    run: Run,
    network: NetworkSettings,
    preprocessing: AnyPreprocessing,
    out_channels: int = 1,
    *,
    output_kernel: int = 1,
) -> Shapes:
    """Refuse a network that does not fit the images of its run, or is too large to build.

    Parameters
    ----------
    run : Run
        For the message.
    network, preprocessing
        Settings in its record.
    out_channels, output_kernel : int
        Channels and kernel size of the output layer.

    Returns
    -------
    dict
        Shapes of the tensors that its weights must have.

    Raises
    ------
    CheckpointError
        If the network is refused.
    """
    try:
        check_dimensions(network, sample_dimensions(preprocessing))
        channels = preprocessing.channels
        plan = planned_network(network, channels, out_channels, output_kernel=output_kernel)
    except ConfigError as error:
        reason = str(error).rstrip(".").partition(";")[0]
        raise CheckpointError(
            f"The record of {run.folder} is damaged ({reason}); use another run."
        ) from error
    return tensor_shapes(plan)


def check_parts(run: Run, shapes: Shapes) -> None:
    """Refuse weights whose encoder or decoder is not that of the network of the run.

    The file may also have heads of pretext tasks, which are not read, and may lack the decoder if
    the task trains the encoder only.

    Raises
    ------
    CheckpointError
        If they do not fit; the message names a tensor.
    """
    stored = read_header(run.weights)
    own = {name: tensor for name, tensor in stored.items() if name.startswith(PARTS)}
    wrong = misfits(own, shapes)
    if wrong:
        raise CheckpointError(
            f"The weights {run.weights} do not fit the network of their run "
            f"({printable(wrong[0], 200)} and {len(wrong) - 1} others differ); the run folder was "
            "changed, so use another."
        )
