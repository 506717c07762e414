"""Networks that reconstruct or generate images: autoencoders, variational autoencoders and DCGAN.

The decoder of the convolutional autoencoders and DCGAN's generator are the same layers under the names `decoder.*` and
`generator.*`, so that tickets and weights of one fit the other if `latent` and `width` are equal. Noise comes from
torch's generators.
"""

from __future__ import annotations

from collections import OrderedDict
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tickdsl.training.models.widths import scaled

#: Channels of the convolutional networks at width 1: half of them at half of the resolution.
_CHANNELS = 64
#: Neurons of the two hidden layers of the linear ones, from the image to the code.
_NEURONS = (256, 128)
#: DCGAN's slope of the leaky ReLU (Radford, Metz & Chintala 2016).
_SLOPE = 0.2


class VaeOutputs(NamedTuple):
    """What a variational autoencoder returns for images [B, C, H, W].

    logits: of the pixel values, [B, C, H, W]; mean, log_variance: of the approximate posterior, [B, …]; beta: [B], the
    weight of the KL divergence in the training loss.
    """

    logits: Tensor
    mean: Tensor
    log_variance: Tensor
    beta: Tensor


class Posterior(NamedTuple):
    """What the encoder of a variational autoencoder returns for images [B, C, H, W]: `mean`, `log_variance`, [B, …]."""

    mean: Tensor
    log_variance: Tensor


class GanOutputs(NamedTuple):
    """What a GAN returns for images [B, C, H, W] in [-1, 1].

    generated: as many images; real, fake: the discriminator's logits for the images and for the generated ones, [B, 1].
    """

    generated: Tensor
    real: Tensor
    fake: Tensor


class Autoencoder(nn.Module):
    """Maps images to pixel values around [0, 1], through a code of `latent` numbers."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, images: Tensor) -> Tensor:
        """Pixel values [B, C, H, W], for images [B, C, H, W]."""
        pixels: Tensor = self.decoder(self.encoder(images))
        return pixels


class VaeEncoder(nn.Module):
    """Maps images to features, from which the layers `mean` and `log_variance` compute the posterior."""

    def __init__(self, features: nn.Module, mean: nn.Module, log_variance: nn.Module) -> None:
        super().__init__()
        self.features, self.mean, self.log_variance = features, mean, log_variance

    def forward(self, images: Tensor) -> Posterior:
        features = self.features(images)
        return Posterior(self.mean(features), self.log_variance(features))


class Vae(nn.Module):
    """A variational autoencoder (Kingma & Welling 2014) with one sample of the code per image."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, beta: float) -> None:
        super().__init__()
        self.encoder, self.decoder, self.beta = encoder, decoder, beta

    def forward(self, images: Tensor) -> VaeOutputs:
        mean, log_variance = self.encoder(images)
        code = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return VaeOutputs(self.decoder(code), mean, log_variance, images.new_full((images.shape[0],), self.beta))


class Dcgan(nn.Module):
    """DCGAN (Radford, Metz & Chintala 2016); a code is `latent` numbers from a normal distribution."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent: int) -> None:
        super().__init__()
        self.generator, self.discriminator, self.latent = generator, discriminator, latent

    def forward(self, images: Tensor) -> GanOutputs:
        noise = torch.randn(images.shape[0], self.latent, dtype=images.dtype, device=images.device)
        generated = self.generator(noise)
        return GanOutputs(generated, self.discriminator(images), self.discriminator(generated))


class AsMap(nn.Module):
    """Turns codes [B, D] into maps of one pixel, [B, D, 1, 1]; maps stay as they are."""

    def forward(self, codes: Tensor) -> Tensor:
        return codes if codes.dim() == 4 else codes[:, :, None, None]


def autoencoder(classes: int, shape: tuple[int, int, int], width: float, latent: int) -> nn.Module:
    """Build a linear autoencoder: pixels - 256 - 128 - latent - 128 - 256 - pixels."""
    encoder = _linear_encoder(shape, width)
    encoder.add_module("fc3", nn.Linear(scaled(_NEURONS[1], width), latent))
    return Autoencoder(encoder, _linear_decoder(shape, width, latent))


def vae(classes: int, shape: tuple[int, int, int], width: float, latent: int, beta: float) -> nn.Module:
    """Build a linear VAE: pixels - 256 - 128 - latent - 128 - 256 - pixels."""
    inner = scaled(_NEURONS[1], width)
    heads = {name: nn.Linear(inner, latent) for name in ("mean", "log_variance")}
    encoder = VaeEncoder(_linear_encoder(shape, width), **heads)
    return Vae(encoder, _linear_decoder(shape, width, latent), beta)


def conv_autoencoder(classes: int, shape: tuple[int, int, int], width: float, latent: int) -> nn.Module:
    """Build a convolutional autoencoder: convolutions 32 - 64 - latent, and `image_decoder`."""
    encoder = _conv_encoder(shape, width)
    encoder.add_module("conv3", nn.Conv2d(scaled(_CHANNELS, width), latent, _coarse(shape)))
    return Autoencoder(encoder, image_decoder(shape, width, latent))


def conv_vae(classes: int, shape: tuple[int, int, int], width: float, latent: int, beta: float) -> nn.Module:
    """Build a convolutional VAE: convolutions 32 - 64 - latent, and `image_decoder`."""
    channels = scaled(_CHANNELS, width)
    heads = {name: nn.Conv2d(channels, latent, _coarse(shape)) for name in ("mean", "log_variance")}
    encoder = VaeEncoder(_conv_encoder(shape, width), **heads)
    return Vae(encoder, image_decoder(shape, width, latent), beta)


def dcgan(classes: int, shape: tuple[int, int, int], width: float, latent: int) -> nn.Module:
    """Build a DCGAN for images whose sides are multiples of 4: `image_decoder`, and convolutions 32 - 64 - 1."""
    generator = image_decoder(shape, width, latent)
    generator.add_module("tanh", nn.Tanh())
    half, full = scaled(_CHANNELS // 2, width), scaled(_CHANNELS, width)
    discriminator = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(shape[0], half, 4, stride=2, padding=1),
            relu1=nn.LeakyReLU(_SLOPE),
            conv2=nn.Conv2d(half, full, 4, stride=2, padding=1, bias=False),
            bn2=nn.BatchNorm2d(full),
            relu2=nn.LeakyReLU(_SLOPE),
            conv3=nn.Conv2d(full, 1, _coarse(shape)),
            flatten=nn.Flatten(),
        )
    )
    return Dcgan(generator, discriminator, latent)


def image_decoder(shape: tuple[int, int, int], width: float, latent: int) -> nn.Sequential:
    """Build transposed convolutions latent - 64 - 32 - C: a map of a quarter of the size, doubled twice."""
    half, full = scaled(_CHANNELS // 2, width), scaled(_CHANNELS, width)
    return nn.Sequential(
        OrderedDict(
            map=AsMap(),
            deconv1=nn.ConvTranspose2d(latent, full, _coarse(shape), bias=False),
            bn1=nn.BatchNorm2d(full),
            relu1=nn.ReLU(),
            deconv2=nn.ConvTranspose2d(full, half, 4, stride=2, padding=1, bias=False),
            bn2=nn.BatchNorm2d(half),
            relu2=nn.ReLU(),
            deconv3=nn.ConvTranspose2d(half, shape[0], 4, stride=2, padding=1),
        )
    )


def _coarse(shape: tuple[int, int, int]) -> tuple[int, int]:
    """The height and width of images after two layers of stride 2."""
    return shape[1] // 4, shape[2] // 4


def _conv_encoder(shape: tuple[int, int, int], width: float) -> nn.Sequential:
    half, full = scaled(_CHANNELS // 2, width), scaled(_CHANNELS, width)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(shape[0], half, 4, stride=2, padding=1, bias=False),
            bn1=nn.BatchNorm2d(half),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(half, full, 4, stride=2, padding=1, bias=False),
            bn2=nn.BatchNorm2d(full),
            relu2=nn.ReLU(),
        )
    )


def _linear_encoder(shape: tuple[int, int, int], width: float) -> nn.Sequential:
    outer, inner = (scaled(neurons, width) for neurons in _NEURONS)
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(prod(shape), outer),
            relu1=nn.ReLU(),
            fc2=nn.Linear(outer, inner),
            relu2=nn.ReLU(),
        )
    )


def _linear_decoder(shape: tuple[int, int, int], width: float, latent: int) -> nn.Sequential:
    outer, inner = (scaled(neurons, width) for neurons in _NEURONS)
    return nn.Sequential(
        OrderedDict(
            fc1=nn.Linear(latent, inner),
            relu1=nn.ReLU(),
            fc2=nn.Linear(inner, outer),
            relu2=nn.ReLU(),
            fc3=nn.Linear(outer, prod(shape)),
            image=nn.Unflatten(1, shape),
        )
    )
