# SPDX-License-Identifier: Apache-2.0
"""The inference graph by itself, for runtimes without Python: torch.export and ONNX, from there TensorRT."""
