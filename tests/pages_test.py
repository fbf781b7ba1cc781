"""The Python blocks of the pages run, page by page and in their order."""

import pathlib
import re

import jax
import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PAGES = [_ROOT / 'README.md', *sorted((_ROOT / 'docs').glob('*.md'))]
_BLOCK = re.compile(r'^(<!-- no test -->\n+)?```python\n(.*?)^```', re.M | re.S)


@pytest.mark.parametrize('page', _PAGES, ids=lambda page: page.name)
def test_blocks_run(page, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # what a page writes is gone with the test
  text = page.read_text()
  assert text.count('```python') == len(_BLOCK.findall(text))
  namespace = {'__name__': page.stem}
  # As a reader would run them.
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    for block in _BLOCK.finditer(text):
      if not block[1]:
        # Blank lines in front: a traceback then names the page's own line.
        above = '\n' * text.count('\n', 0, block.start(2))
        exec(compile(above + block[2], str(page), 'exec'), namespace)
