# SPDX-License-Identifier: Apache-2.0
"""HDF5 recordings into LeRobotDatasets: `lerobot-ext convert hdf5`."""
