# SPDX-License-Identifier: Apache-2.0
"""The two ways in which a bus fails: nobody answers, or a motor answers that something is wrong with it."""

CHECK = "Check the arm's power, the cables to and between the motors, and the motors' ids and baud rate"


class BusLostError(ConnectionError):
    """The bus does not answer any more, or its port has gone.

    Whatever the operating system raised (`OSError`, `serial.SerialException`, `termios.error`) becomes this.
    """


class MotorAlertError(RuntimeError):
    """A motor answers, but with an error: overload, voltage, heat, or a value it refuses."""
