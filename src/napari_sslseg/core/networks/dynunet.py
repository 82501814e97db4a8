"""MONAI's DynUNet, the U-Net of nnU-Net (Isensee et al. 2021), as encoder, decoder and output.

MONAI nests its blocks so that each contains the next; here the same blocks are in sequence, so that
parts can be named, transferred and used separately. The output is the same as that of MONAI.
"""

from napari_sslseg.core.networks.parts import Decoder, Encoder, EncoderDecoder, output_layer
from napari_sslseg.core.settings.networks import DynUNet2dNetwork, DynUNet3dNetwork


class DynUNet(EncoderDecoder):
    """DynUNet from slices or volumes to ``out_channels`` scores per pixel.

    Two convolutions per level with InstanceNorm (learned scale and offset) and LeakyReLU of slope
    0.01; strided convolutions in the encoder, transposed ones of kernel 2 in the decoder; no deep
    supervision.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the images and of the output.
    network : DynUNet2dNetwork or DynUNet3dNetwork
        Widths per level, and whether encoder blocks are residual.
    output_kernel : {1, 3}
        Kernel of the last layer; 1 in nnU-Net.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        network: DynUNet2dNetwork | DynUNet3dNetwork,
        output_kernel: int = 1,
    ) -> None:
        from monai.networks.nets import DynUNet as MonaiDynUNet

        widths = network.widths
        depth = len(widths)
        blocks = MonaiDynUNet(
            spatial_dims=network.dimensions,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=[3] * depth,
            strides=[1] + [2] * (depth - 1),
            upsample_kernel_size=[2] * (depth - 1),
            filters=widths,
            res_block=network.residual,
            deep_supervision=False,
        )
        output = output_layer(network.dimensions, widths[0], out_channels, output_kernel)
        super().__init__(
            Encoder(
                [blocks.input_block, *blocks.downsamples, blocks.bottleneck], widths, pool=False
            ),
            Decoder(blocks.upsamples, widths[-2::-1]),
            # As MONAI initialises all its convolutions.
            output.apply(blocks.initialize_weights),
            network.stride,
        )
