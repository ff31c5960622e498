"""Reference trainer for ternary N:M models that sbnc compiles. See docs/training.md."""
