# SPDX-License-Identifier: Apache-2.0
"""The table's top as a conveyor belt: what lies on it travels to the arm's right at a constant speed.

It is there for what a table at rest hides: a policy that acts late, or waits while it plans, comes to where
the cube was. The belt is the table itself on a heavy slide that is driven at constant speed and put back
after every frame, so that it never ends; MuJoCo's friction does the rest. With a speed of 0 the model is the
one without a belt, to the bit.
"""

from typing import Final

import mujoco

_ARMATURE_KG: Final = 1e3
"""Nothing on the bench slows it."""


class Belt:
    """A driven table top.

    Args:
        xml (`str`): The bench's model, with a geom `table` of the world.
        speed_m_s (`float`): To the arm's right.

    Attributes:
        model (`mujoco.MjModel`): The bench with its table on a slide, which is the last joint.
    """

    def __init__(self, xml: str, speed_m_s: float) -> None:
        self.speed_m_s = speed_m_s
        plain = mujoco.MjModel.from_xml_string(xml)
        spec = mujoco.MjSpec.from_string(xml)
        table = spec.geom("table")
        kept = {
            name: getattr(table, name) for name in ("type", "size", "pos", "rgba", "contype", "conaffinity")
        }
        spec.delete(table)
        body = spec.worldbody.add_body(name="belt")
        body.add_joint(
            name="belt", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[1.0, 0.0, 0.0], armature=_ARMATURE_KG
        )
        body.add_geom(name="table", **kept)
        self.model = spec.compile()
        # MuJoCo's solver takes it as the measure of when it is done; the slide would make it stop too soon.
        self.model.stat.meaninertia = plain.stat.meaninertia
        self._at = int(self.model.joint("belt").qposadr[0])
        self._dof = int(self.model.joint("belt").dofadr[0])

    def drive(self, data: mujoco.MjData) -> None:
        """Put the table back to its place, and in motion."""
        data.qpos[self._at] = 0.0
        data.qvel[self._dof] = self.speed_m_s
