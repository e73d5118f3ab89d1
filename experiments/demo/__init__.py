"""The demo's data, as they are packaged, and the table behind the figures of the README."""
