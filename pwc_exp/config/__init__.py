"""From YAML files and arguments to checked dataclasses; the only package that knows Hydra."""
