# SPDX-License-Identifier: Apache-2.0
"""A small software renderer for the bench: numpy and OpenCV, no GL, about 2 ms a frame.

Every geom is a convex solid with flat faces. Faces that look towards the camera are shaded by one sun, sorted
by depth and filled from back to front (the painter's algorithm); shadows are the solids' outlines projected
onto the table. Solids that pierce each other may show an edge where a real renderer would show the cut.
"""

import math
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

NEAR_M: Final = 0.012
SUN: Final = np.array([0.25, 0.40, 1.0]) / math.sqrt(0.25**2 + 0.40**2 + 1.0)
AMBIENT: Final = 0.55
DIFFUSE: Final = 0.50
SHADOW: Final = 0.72
BACKGROUND: Final = (0.0, 0.0, 0.0)
SUBPIXEL_BITS: Final = 4

# What lies flat below everything else and is drawn first, in this order.
GROUND: Final = ("table", "mat")

_BOX_CORNERS: Final = np.array(
    [[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64
)
_BOX_FACES: Final = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]


def _cylinder(radius: float, half_height: float, sides: int = 12) -> tuple[FloatArray, list[list[int]]]:
    angles = np.arange(sides) * (math.tau / sides)
    ring = np.stack([np.cos(angles) * radius, np.sin(angles) * radius], axis=1)
    corners = np.concatenate(
        [
            np.column_stack([ring, np.full(sides, -half_height)]),
            np.column_stack([ring, np.full(sides, half_height)]),
        ]
    )
    faces = [[i, (i + 1) % sides, sides + (i + 1) % sides, sides + i] for i in range(sides)]
    return corners, [*faces, list(range(sides))[::-1], list(range(sides, 2 * sides))]


def _sphere(radius: float, rings: int = 6, sides: int = 10) -> tuple[FloatArray, list[list[int]]]:
    corners = [[0.0, 0.0, -radius]]
    for ring in range(1, rings):
        latitude = math.pi * ring / rings
        for side in range(sides):
            angle = math.tau * side / sides
            flat = radius * math.sin(latitude)
            corners.append([flat * math.cos(angle), flat * math.sin(angle), -radius * math.cos(latitude)])
    corners.append([0.0, 0.0, radius])
    top = len(corners) - 1
    faces = [[0, 1 + (s + 1) % sides, 1 + s] for s in range(sides)]
    for ring in range(rings - 2):
        low, high = 1 + ring * sides, 1 + (ring + 1) * sides
        faces += [[low + s, low + (s + 1) % sides, high + (s + 1) % sides, high + s] for s in range(sides)]
    faces += [[top - sides + s, top - sides + (s + 1) % sides, top] for s in range(sides)]
    return np.array(corners), faces


def _solid(kind: str, size: FloatArray) -> tuple[FloatArray, list[list[int]]]:
    """Corners (V, 3) and faces (counter-clockwise seen from outside) of a primitive in its own frame."""
    if kind == "box":
        return _BOX_CORNERS * size, _BOX_FACES
    if kind == "cylinder":
        return _cylinder(float(size[0]), float(size[1]))
    if kind == "sphere":
        return _sphere(float(size[0]))
    raise ValueError(f"the painter draws box, cylinder and sphere; the model has a {kind}.")


class Painter:
    """Draws the cameras of a MuJoCo model in software.

    Args:
        model (`mujoco.MjModel`): Model of boxes, cylinders and spheres.

    Raises:
        ValueError: If the model has a geom of another type.
    """

    name = "painter"

    def __init__(self, model: Any) -> None:
        import mujoco

        kinds = {
            int(mujoco.mjtGeom.mjGEOM_BOX): "box",
            int(mujoco.mjtGeom.mjGEOM_CYLINDER): "cylinder",
            int(mujoco.mjtGeom.mjGEOM_SPHERE): "sphere",
        }
        corners: list[FloatArray] = []
        normals: list[FloatArray] = []
        owners: list[int] = []
        face_owner: list[int] = []
        self._faces: list[NDArray[np.int64]] = []
        self._spans: list[tuple[int, int]] = []
        for geom in range(model.ngeom):
            kind = kinds.get(int(model.geom_type[geom]), f"geom of type {int(model.geom_type[geom])}")
            points, faces = _solid(kind, model.geom_size[geom])
            start = len(owners)
            self._spans.append((start, start + len(points)))
            corners.append(points)
            owners += [geom] * len(points)
            for face in faces:
                a, b, c = points[face[0]], points[face[1]], points[face[2]]
                normal = np.cross(b - a, c - b)
                normals.append(normal / np.linalg.norm(normal))
                self._faces.append(np.array(face) + start)
                face_owner.append(geom)
        self._corners = np.concatenate(corners)  # (V, 3)
        self._owners = np.array(owners)  # (V,) geom of each corner
        self._normals = np.array(normals)  # (F, 3)
        self._face_owner = np.array(face_owner)  # (F,)
        self._longest = max(len(face) for face in self._faces)
        # (F, longest) corner of each face, short faces padded with their first corner.
        self._table = np.array([[*f, *([f[0]] * (self._longest - len(f)))] for f in self._faces])
        self._lengths = np.array([len(f) for f in self._faces])
        self._colour = np.array(model.geom_rgba[:, :3])
        ground = [model.geom(name).id for name in GROUND]
        self._ground_rank = {geom: rank for rank, geom in enumerate(ground)}
        self._is_ground = np.isin(self._face_owner, ground)
        self._table_box = (model.geom("table").pos.copy(), model.geom("table").size.copy())
        self._cameras = {model.camera(i).name: i for i in range(model.ncam)}
        self._tan = np.tan(np.radians(model.cam_fovy) / 2)
        self._casts = [g for g in range(model.ngeom) if g not in ground]

    def close(self) -> None:
        """Nothing to free."""

    def render(self, data: Any, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width, 3) RGB picture of the state."""
        index = self._cameras[camera]
        eye = np.array(data.cam_xpos[index])
        axes = np.array(data.cam_xmat[index]).reshape(3, 3)  # columns: right, up, backward
        scale = height / 2 / self._tan[index]
        rotations = np.array(data.geom_xmat).reshape(-1, 3, 3)
        centres = np.array(data.geom_xpos)
        world = (
            np.einsum("vij,vj->vi", rotations[self._owners], self._corners) + centres[self._owners]
        )  # (V, 3)
        normals = np.einsum("fij,fj->fi", rotations[self._face_owner], self._normals)  # (F, 3)

        picture = np.empty((height, width, 3), dtype=np.uint8)
        picture[:] = np.round(np.array(BACKGROUND) * 255)
        view = _View(picture, eye, axes, scale)

        light = AMBIENT + DIFFUSE * np.maximum(normals @ SUN, 0.0)
        colours = np.clip(self._colour[self._face_owner] * light[:, None], 0.0, 1.0) * 255
        faces_eye = np.einsum("fi,fi->f", normals, eye - world[self._table[:, 0]]) > 0
        faces_eye &= world[self._table[:, 0], 2] > -0.3  # the store of unused props below the table

        for face in sorted(
            np.flatnonzero(faces_eye & self._is_ground), key=lambda f: self._ground_rank[self._face_owner[f]]
        ):
            view.fill(world[self._faces[face]], colours[face].tolist())
        self._paint_shadows(view, world)

        solid = np.flatnonzero(faces_eye & ~self._is_ground)
        depth = (eye - world) @ axes[:, 2]
        pieces = depth[self._table[solid]]  # (f, longest)
        order = np.argsort(-pieces.mean(axis=1), kind="stable")
        whole = (pieces.min(axis=1) > NEAR_M)[order].tolist()
        pixels = view.fixed(view.project(world))
        paint = colours.tolist()
        for face, ahead in zip(solid[order].tolist(), whole, strict=True):
            if ahead:
                view.fill_pixels(pixels[self._faces[face]], paint[face])
            else:
                view.fill(world[self._faces[face]], paint[face])
        return picture

    def _paint_shadows(self, view: "_View", world: FloatArray) -> None:
        """Darken the table where the sun is hidden: each solid's outline, projected along the light."""
        centre, size = self._table_box
        height = world[:, 2]
        flat = np.empty_like(world)
        flat[:, :2] = world[:, :2] - SUN[:2] / SUN[2] * np.maximum(height, 0.0)[:, None]
        np.clip(flat[:, :2], centre[:2] - size[:2], centre[:2] + size[:2], out=flat[:, :2])
        flat[:, 2] = 0.001
        ahead = view.depth(flat) > NEAR_M
        pixels = view.fixed(view.project(flat))
        mask = np.zeros(view.picture.shape[:2], dtype=np.uint8)
        for geom in self._casts:
            span = slice(*self._spans[geom])
            if height[span].max() <= 0.0:
                continue
            if ahead[span].all():
                outline = cv2.convexHull(pixels[span])
                cv2.fillConvexPoly(mask, outline, 255, cv2.LINE_AA, SUBPIXEL_BITS)
            else:
                corners = cv2.convexHull(flat[span, :2].astype(np.float32))[:, 0]
                view.fill_into(mask, np.column_stack([corners, np.full(len(corners), 0.001)]))
        dark = mask > 127
        view.picture[dark] = (view.picture[dark] * SHADOW).astype(np.uint8)


class _View:
    """A camera looking at a picture being painted."""

    def __init__(self, picture: NDArray[np.uint8], eye: FloatArray, axes: FloatArray, scale: float) -> None:
        self.picture = picture
        self._eye, self._axes, self._scale = eye, axes, scale
        self._centre = np.array([picture.shape[1] / 2 - 0.5, picture.shape[0] / 2 - 0.5])

    def project(self, points: FloatArray) -> FloatArray:
        """(N, 2) pixels of points in front of the camera; those behind it are meaningless."""
        local = (points - self._eye) @ self._axes  # (N, 3): right, up, backward
        depth = np.maximum(-local[:, 2], 1e-6)
        return self._centre + np.column_stack([local[:, 0], -local[:, 1]]) * (self._scale / depth)[:, None]

    def depth(self, points: FloatArray) -> FloatArray:
        """(N,) distances of points along the camera's axis, negative behind it."""
        return np.asarray((self._eye - points) @ self._axes[:, 2], dtype=np.float64)

    def _clip(self, points: FloatArray) -> FloatArray:
        """The part of a polygon that lies in front of the near plane."""
        ahead = self.depth(points) - NEAR_M
        if (ahead >= 0).all():
            return points
        kept = []
        for i in range(len(points)):
            j = (i + 1) % len(points)
            if ahead[i] >= 0:
                kept.append(points[i])
            if (ahead[i] >= 0) != (ahead[j] >= 0):
                share = ahead[i] / (ahead[i] - ahead[j])
                kept.append(points[i] + share * (points[j] - points[i]))
        return np.array(kept).reshape(-1, 3)

    def fill(self, points: FloatArray, colour: list[float]) -> None:
        """Fill a flat polygon given in the world frame, cut at the near plane."""
        clipped = self._clip(points)
        if len(clipped) >= 3:
            self.fill_pixels(self.fixed(self.project(clipped)), colour)

    def fill_into(self, mask: NDArray[np.uint8], points: FloatArray) -> None:
        """Fill a flat polygon of the world frame into a mask of the picture's size."""
        clipped = self._clip(points)
        if len(clipped) >= 3:
            cv2.fillConvexPoly(mask, self.fixed(self.project(clipped)), 255, cv2.LINE_AA, SUBPIXEL_BITS)

    def fill_pixels(self, pixels: NDArray[np.int32], colour: list[float]) -> None:
        """Fill a polygon given in `fixed` pixels."""
        cv2.fillConvexPoly(self.picture, pixels, colour, cv2.LINE_AA, SUBPIXEL_BITS)

    @staticmethod
    def fixed(pixels: FloatArray) -> NDArray[np.int32]:
        """Pixels as OpenCV's fixed point takes them, kept inside its 32 bits."""
        return np.clip(np.rint(pixels * (1 << SUBPIXEL_BITS)), -(1 << 24), 1 << 24).astype(np.int32)
