"""Hides torch from a process that is started with this folder on its path.

On Linux the product is installed without torch, which is there for the oracle alone; and importing
it is most of the time that a short run takes.
"""

import sys

sys.modules["torch"] = None  # type: ignore[assignment]
