# SPDX-License-Identifier: Apache-2.0
"""Depth maps of the cameras: MuJoCo casts one ray for each pixel, no OpenGL, about 1 ms for 64 x 64.

A map is what LeRobot has from a depth camera (its `read_depth`): uint16 millimetres along the camera's axis,
not along the ray, and 0 where nothing was measured. It covers the colour picture of the same camera and size
pixel by pixel. There is no noise: the same state gives the same map, whichever renderer draws the colours.

MuJoCo's side is `mj_multiRay` (https://mujoco.readthedocs.io/en/stable/APIreference/APIfunctions.html): each
ray's distance to the nearest geom that is visible, -1 where there is none; and `fovy`, the height of the
picture as an angle.

Legend: `H` rows, `W` columns, `N` rays, H * W.
"""

import math
from typing import Any, Final

import mujoco
import numpy as np
from numpy.typing import NDArray

NEAREST_M: Final = 0.03
FARTHEST_M: Final = 2.0
"""What lies nearer or farther along the camera's axis is not measured."""
MM_PER_M: Final = 1000

# An output that later versions have before the rays' number; before, there is none to give.
_NORMALS: Final[dict[str, Any]] = {"normal": None} if "normal:" in (mujoco.mj_multiRay.__doc__ or "") else {}


class DepthCamera:
    """Measures distances from a camera of the model; its rays are worked out once.

    Args:
        model (`mujoco.MjModel`): What the camera is in.
        camera (`str`): Its name there.
        height (`int`): Rows H.
        width (`int`): Columns W.
    """

    def __init__(self, model: Any, camera: str, height: int, width: int) -> None:
        self._model, self._shape = model, (height, width)
        self._camera = model.camera(camera).id
        rays = pixel_rays(math.radians(float(model.cam_fovy[self._camera])), height, width)
        self._along_axis = -rays[:, 2]  # (N,) what a metre along the ray is along the axis
        self._rays = rays
        self._geoms = np.empty(len(rays), dtype=np.int32)
        self._distances = np.empty(len(rays), dtype=np.float64)
        self._cutoff_m = FARTHEST_M / float(self._along_axis.min())

    def measure(self, data: Any) -> NDArray[np.uint16]:
        """(H, W) millimetres along the camera's axis in the state of `data`; 0: nothing measured."""
        # The camera's axes are columns: x to the right, y up, z backward.
        axes = data.cam_xmat[self._camera].reshape(3, 3)
        mujoco.mj_multiRay(
            m=self._model,
            d=data,
            pnt=data.cam_xpos[self._camera],
            vec=(self._rays @ axes.T).ravel(),
            geomgroup=None,
            flg_static=True,
            bodyexclude=-1,
            geomid=self._geoms,
            dist=self._distances,
            nray=len(self._rays),
            cutoff=self._cutoff_m,
            **_NORMALS,
        )
        return to_millimetres(self._distances * self._along_axis).reshape(self._shape)


def pixel_rays(fovy_rad: float, height: int, width: int) -> NDArray[np.float64]:
    """Directions through the middle of each pixel, row by row from the upper left.

    Args:
        fovy_rad (`float`): The height of the picture as an angle.
        height (`int`): Rows H.
        width (`int`): Columns W; pixels are square.

    Returns:
        `NDArray[np.float64]`: (N, 3) of length 1 in the camera's frame: x to the right, y up, z backward.
    """
    focal = height / 2 / math.tan(fovy_rad / 2)  # pixels
    right = np.arange(width) + 0.5 - width / 2
    up = height / 2 - 0.5 - np.arange(height)
    rays = np.stack(np.broadcast_arrays(right[None, :] / focal, up[:, None] / focal, -1.0), axis=-1)
    flat = rays.reshape(-1, 3)
    return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True))


def to_millimetres(depth_m: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Rounded millimetres (...) of metres (...) along the axis; 0 out of `NEAREST_M` to `FARTHEST_M`.

    A distance below 0, which says that a ray meets nothing, is out of it too.
    """
    measured = (depth_m >= NEAREST_M) & (depth_m <= FARTHEST_M)
    return np.where(measured, np.rint(depth_m * MM_PER_M), 0).astype(np.uint16)
