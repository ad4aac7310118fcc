"""Models of this machine: Hugging Face folders that answer and embed in a pool's workers.

Nothing here imports torch or transformers but the workers' own functions.
"""
