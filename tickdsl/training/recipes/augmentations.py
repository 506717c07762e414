"""The augmentations that a recipe can name: built in, of torchvision, or one's own. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping

from tickdsl.plugins import Registry

#: Those that tickdsl defines: draws for all images at once.
PLAIN_AUGMENTATIONS: Mapping[str, str] = {
    "crop": "pad with 4 black pixels, then cut out a random window of the original size",
    "flip": "mirror horizontally, with probability 1/2",
    "rotation": "rotate by up to 15 degrees either way",
}
#: Transforms of `torchvision.transforms.v2` that keep the shape of images, or can, image by image.
TORCHVISION_TRANSFORMS: Mapping[str, str] = {
    "AugMix": "AugMix (Hendrycks et al. 2020)",
    "AutoAugment": "AutoAugment (Cubuk et al. 2019)",
    "CenterCrop": "cut out the centre; needs size=",
    "ColorJitter": "change brightness=, contrast=, saturation= and hue= by up to a share",
    "ElasticTransform": "displace pixels smoothly",
    "GaussianBlur": "blur; needs kernel_size=",
    "GaussianNoise": "add noise",
    "Grayscale": "make grey; needs num_output_channels=3 for images in colour",
    "JPEG": "compress; needs quality=",
    "RandAugment": "RandAugment (Cubuk et al. 2020)",
    "RandomAdjustSharpness": "sharpen or blur; needs sharpness_factor=",
    "RandomAffine": "rotate, shift, scale and shear; needs degrees=",
    "RandomAutocontrast": "stretch the contrast",
    "RandomChannelPermutation": "exchange the channels",
    "RandomCrop": "cut out a random window; needs size= of the images, and padding=",
    "RandomEqualize": "equalise the histogram",
    "RandomErasing": "set a random rectangle to 0",
    "RandomGrayscale": "make grey, with a probability",
    "RandomHorizontalFlip": "mirror horizontally, with a probability",
    "RandomInvert": "invert the pixel values",
    "RandomPerspective": "change the perspective",
    "RandomPhotometricDistort": "change brightness, contrast, saturation, hue and the order of channels",
    "RandomPosterize": "keep fewer bits per channel; needs bits=",
    "RandomResizedCrop": "cut out a random window and resize it; needs size= of the images",
    "RandomRotation": "rotate; needs degrees=",
    "RandomSolarize": "invert bright pixels; needs threshold=",
    "RandomVerticalFlip": "mirror vertically, with a probability",
    "TrivialAugmentWide": "TrivialAugment (Müller & Hutter 2021)",
}
_OTHER_SHAPE = "changes the shape of images", "use `size=` of `data`, which resizes all images, or RandomResizedCrop"
_NO_IMAGES = "changes no images", "leave it out"
_TYPE = "changes the type of images, which are normalised after augmentation", "leave it out"
_OF_OTHERS = "is made of other transforms", "list the transforms themselves"
_BOXES = "is for boxes or points, which no task has", "leave it out"
_PIL = "needs images of PIL; those of tickdsl are tensors", "leave it out"
#: The other names of `torchvision.transforms.v2`: why they are no augmentations, and what to do instead.
UNFIT_TRANSFORMS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("FiveCrop", "Pad", "RandomResize", "RandomShortestSize", "RandomZoomOut", "Resize", "ScaleJitter", "TenCrop"),
        _OTHER_SHAPE,
    ),
    **dict.fromkeys(("Identity", "RGB", "ToImage", "ToPureTensor", "UniformTemporalSubsample"), _NO_IMAGES),
    **dict.fromkeys(("ConvertImageDtype", "Normalize", "LinearTransformation", "ToDtype", "ToTensor"), _TYPE),
    **dict.fromkeys(("Compose", "Lambda", "RandomApply", "RandomChoice", "RandomOrder"), _OF_OTHERS),
    **dict.fromkeys(
        ("ClampBoundingBoxes", "ClampKeyPoints", "ConvertBoundingBoxFormat", "RandomIoUCrop", "SanitizeBoundingBoxes",
         "SanitizeKeyPoints", "SetClampingMode"),
        _BOXES,
    ),
    **dict.fromkeys(("PILToTensor", "ToPILImage"), _PIL),
    "CutMix": ("mixes images of a batch", "use `cutmix=`"),
    "MixUp": ("mixes images of a batch", "use `mixup=`"),
}  # fmt: skip
#: The augmentations of `train augment=`.
AUGMENTATIONS: Registry[str] = Registry(
    "augmentation",
    {**PLAIN_AUGMENTATIONS, **TORCHVISION_TRANSFORMS},
    lambda plugin, description: description.summary or plugin.origin,
)


def is_plain(text: str) -> bool:
    """Whether an augmentation is one that tickdsl defines, for all images of a batch at once."""
    return text in PLAIN_AUGMENTATIONS
