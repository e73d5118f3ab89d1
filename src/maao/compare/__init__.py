"""Many runs beside one another: a table of arms x models x tasks x seeds, run cell by cell, and read out with honest statistics."""

from maao.compare.page import read_out
from maao.compare.rows import Row, read_row, read_rows
from maao.compare.table import Cell, Table, cells, read_table
from maao.compare.workers import compare

__all__ = ["Cell", "Row", "Table", "cells", "compare", "read_out", "read_row", "read_rows", "read_table"]
