"""The only room that knows DSPy: models, signatures, programs, and what a run took."""

import os

# A first call would otherwise wait up to five seconds for a price list from the network.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
