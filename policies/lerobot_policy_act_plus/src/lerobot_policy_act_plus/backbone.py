# SPDX-License-Identifier: Apache-2.0
"""Image networks: torchvision's ResNets as in stock ACT, any other of torchvision, any of timm.

A backbone maps (B, C, H, W) to `{"feature_map": (B, K, h, w)}`, as stock ACT's does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops.misc import FrozenBatchNorm2d

from .configuration_act_plus import ActPlusConfig

logger = logging.getLogger(__name__)

_STOCK_PREFIX = "resnet"


class FeatureMap(nn.Module):
    """Give a network's feature map the form stock ACT reads.

    Args:
        net (`nn.Module`): (B, C, H, W) to (B, K, h, w), or to a list whose last entry is that.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map `images` (B, C, H, W) to `{"feature_map": (B, K, h, w)}`."""
        maps = self.net(images)
        return {"feature_map": maps[-1] if isinstance(maps, (list, tuple)) else maps}


def is_stock(config: ActPlusConfig) -> bool:
    """Whether stock ACT itself builds the backbone that is asked for."""
    return (
        config.vision_backbone.startswith(_STOCK_PREFIX)
        and config.backbone_norm == "frozen_batch"
        and config.backbone_weights is None
    )


def build_backbone(config: ActPlusConfig) -> nn.Module:
    """Build the image network of `vision_backbone`, with weights if the config names any.

    Raises:
        ImportError: If the name is none of torchvision's and timm is not installed.
        ValueError: If nobody knows the name, or the weights do not fit.
    """
    name = config.vision_backbone
    if name.startswith(_STOCK_PREFIX):
        backbone: nn.Module = _resnet(config)
    elif name in torchvision.models.list_models(module=torchvision.models):
        backbone = FeatureMap(_torchvision_features(name, config.pretrained_backbone_weights))
    else:
        backbone = FeatureMap(_timm_features(name, config.pretrained_backbone_weights))
    if config.backbone_norm == "group" and not name.startswith(_STOCK_PREFIX):
        raise ValueError(
            f"`backbone_norm` 'group' is for ResNets; `vision_backbone` is {name!r}. Leave it out."
        )
    if config.backbone_weights is not None:
        load_weights(backbone, Path(config.backbone_weights))
    return backbone


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with groups of 16 channels or the next smaller number that divides them."""
    groups = max(1, channels // 16)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


def _resnet(config: ActPlusConfig) -> nn.Module:
    norm: Callable[[int], nn.Module] = group_norm if config.backbone_norm == "group" else FrozenBatchNorm2d
    model = getattr(torchvision.models, config.vision_backbone)(
        replace_stride_with_dilation=[False, False, config.replace_final_stride_with_dilation],
        weights=config.pretrained_backbone_weights,
        norm_layer=norm,
    )
    backbone: nn.Module = IntermediateLayerGetter(model, return_layers={"layer4": "feature_map"})
    return backbone


def _torchvision_features(name: str, weights: str | None) -> nn.Module:
    try:
        model = torchvision.models.get_model(name, weights=weights)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(
            f"`pretrained_backbone_weights` ({weights}) are none of `vision_backbone` {name!r}'s ({error}); "
            "set "
            "`--policy.pretrained_backbone_weights=null` or name its own."
        ) from error
    if not isinstance(getattr(model, "features", None), nn.Module):
        raise ValueError(
            f"`vision_backbone` {name!r} gives no feature map; choose a ResNet, a MobileNet, an "
            "EfficientNet or a ConvNeXt."
        )
    features: nn.Module = model.features
    return features


def _timm_features(name: str, weights: str | None) -> nn.Module:
    try:
        import timm  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ImportError(
            f"`vision_backbone` {name!r} is no network of torchvision's; for timm's, `pip install timm`."
        ) from error
    if weights is not None:
        raise ValueError(
            f"`pretrained_backbone_weights` ({weights}) are torchvision's and `vision_backbone` {name!r} is "
            "timm's; set "
            "them to null and give a file with `--policy.backbone_weights`."
        )
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, features_only=True)
    except RuntimeError as error:
        raise ValueError(
            f"`vision_backbone` {name!r} is no network of torchvision's or timm's ({error})."
        ) from error
    return model


@torch.no_grad()
def feature_channels(backbone: nn.Module, planes: int, size: tuple[int, int]) -> int:
    """Channels of the feature map of an image with `planes` channels."""
    was_training = backbone.training
    channels = int(backbone.eval()(torch.zeros(1, planes, *size))["feature_map"].shape[1])
    backbone.train(was_training)
    return channels


def load_weights(backbone: nn.Module, path: Path) -> None:
    """Load a backbone's weights from a file of torch's or safetensors'.

    Names may begin with `backbone.` or `module.`; a classifier's are left out.

    Raises:
        ValueError: If there is no such file, or nothing in it fits.
    """
    if not path.is_file():
        raise ValueError(f"`backbone_weights` ({path}) is no file; give a .pth or .safetensors file.")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        found = load_file(path)
    else:
        found = torch.load(path, map_location="cpu", weights_only=True)
        found = found.get("state_dict", found)
    target = backbone.net if isinstance(backbone, FeatureMap) else backbone
    wanted = target.state_dict()
    stripped = {_bare(name): value for name, value in found.items()}
    fitting = {k: v for k, v in stripped.items() if k in wanted and wanted[k].shape == v.shape}
    missing = sorted(k for k in wanted if k not in fitting and not k.endswith("num_batches_tracked"))
    if missing:
        raise ValueError(
            f"`backbone_weights` ({path}) lacks {len(missing)} of {len(wanted)} tensors of the backbone, "
            f"`{missing[0]}` "
            "for one; give the weights of this network."
        )
    target.load_state_dict(fitting, strict=False)
    logger.info("act_plus: %d tensors of the backbone read from %s", len(fitting), path)


def _bare(name: str) -> str:
    for start in ("module.", "model.", "backbone.", "features."):
        name = name.removeprefix(start)
    return name


def _first_convolution(backbone: nn.Module) -> tuple[nn.Module, str, nn.Conv2d]:
    """The convolution that reads the image: its parent, its name there, and itself.

    Raises:
        ValueError: If the network has none for three channels.
    """
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3 and module.groups == 1:
            parent, _, own = name.rpartition(".")
            return backbone.get_submodule(parent), own, module
    raise ValueError("the backbone has no convolution that reads an image; choose another `vision_backbone`.")


@torch.no_grad()
def replace_first_convolution(backbone: nn.Module, weight: Callable[[Tensor], Tensor]) -> None:
    """Let a backbone read images with another number of channels.

    Args:
        backbone (`nn.Module`): Network for colour images; changed in place.
        weight (`Callable`): From the first convolution's weight (K, 3, h, w) to the new one
            (K, C, h, w).
    """
    parent, name, old = _first_convolution(backbone)
    made = weight(old.weight)
    new = nn.Conv2d(
        made.shape[1],
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    new.weight.copy_(made)
    if old.bias is not None and new.bias is not None:
        new.bias.copy_(old.bias)
    setattr(parent, name, new)
