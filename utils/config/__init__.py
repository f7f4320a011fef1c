"""Configurations: sections with typed keys, YAML read strictly, mistakes in one line, flags made from sections."""
