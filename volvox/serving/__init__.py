"""The server: models behind REST, catalogue pages, pages to try a model."""
