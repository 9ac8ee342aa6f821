"""Generates video. Nothing that it does is reported to anybody.

ONNX Runtime's Linux packages have sent model names and machine data to their maker since 1.29, unless this
variable is set before the library is loaded; so it is set here, before any module of the package. The same
for the libraries of the full-size models. Whoever sets a variable of their own is not overruled.
"""

import os

for _name in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_name, "1")
