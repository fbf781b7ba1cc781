"""Draws the gallery of the documentation."""

import pathlib

from experiments.gallery import make, rows

DOCS = pathlib.Path(__file__).parents[2] / 'docs'

if __name__ == '__main__':
  page = make.write(make.make_files(rows.ROWS), DOCS)
  print(f'{page.relative_to(DOCS.parent)}: {len(rows.ROWS)} plots')
