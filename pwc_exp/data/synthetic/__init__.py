"""Generated scenes with exact flow."""
