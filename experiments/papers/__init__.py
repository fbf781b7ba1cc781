"""Claims of papers, measured: one small file each, one table of all."""
