"""The files of a gallery: the page, the plots, and the values they show."""

from collections.abc import Mapping
import pathlib
from typing import Any

from experiments.gallery import page, plot, values

PAGE, FOLDER, VALUES = 'schedule_gallery.md', 'gallery', 'values.json'


def make_files(rows: Mapping[str, Any]) -> dict[str, str]:
  """The text of every file by its path; writes nothing.

  Raises:
    ValueError: as `lrcl.schedules.build_schedule`, for a call that is wrong.
  """
  drawn = {name: values.lines(row) for name, row in rows.items()}
  files = {PAGE: page.format_page(rows, FOLDER)}
  for name, row in rows.items():
    figure = plot.draw(
      drawn[name], values.feeds(row), x=row['axis'], legend=values.varied(row)
    )
    files[f'{FOLDER}/{name}.svg'] = plot.to_file(figure, name)
  files[f'{FOLDER}/{VALUES}'] = values.format_values(drawn)
  return files


def write(files: Mapping[str, str], root: pathlib.Path) -> pathlib.Path:
  """Writes the files below `root`, in place of an earlier gallery's.

  Returns:
    The page.
  """
  (root / FOLDER).mkdir(parents=True, exist_ok=True)
  for old in (root / FOLDER).iterdir():
    old.unlink()
  for path, text in files.items():
    (root / path).write_text(text)
  return root / PAGE
