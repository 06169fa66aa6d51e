"""Recipes of tests."""

from pathlib import Path

FEW = str(Path(__file__).with_name("few.yaml"))
"""LoRA on a handful of captures of which two fifths are held out, which `lora-few` no longer does."""
