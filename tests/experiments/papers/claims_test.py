import ast
import pathlib

import pytest

from experiments.papers import claims, table

_FOLDER = pathlib.Path(claims.__file__).parent
_NAMES = sorted(
  path.stem
  for path in _FOLDER.glob('*.py')
  if 'claims.main(' in path.read_text() and path.stem != 'claims'
)


@pytest.mark.parametrize('name', _NAMES)
def test_a_claim_has_an_outcome_and_says_how_long_it_takes(name):
  assert (claims.RESULTS / f'{name}.json').exists(), (
    f'run: python -m experiments.papers.{name}'
  )
  doc = ast.get_docstring(ast.parse((_FOLDER / f'{name}.py').read_text())) or ''
  assert f'python -m experiments.papers.{name}' in doc
  assert 'CPU' in doc


def test_no_outcome_is_left_of_a_claim_that_is_gone():
  assert {r['name'] for r in table.read_results()} <= set(_NAMES)


def test_the_page_is_current():
  wanted = table.make_page()
  assert table.PAGE.read_text() == wanted, (
    'run: python -m experiments.papers.table'
  )


def test_a_verdict_follows_from_the_seeds():
  near, far = [1.0, 1.2, 0.9], [1.1, 1.15, 1.0]
  assert not claims.is_below(near, far)
  assert claims.is_below(near, [x + 1 for x in far])
  assert not claims.is_below(near, [x + 1 for x in near], margin=1.0)


def test_a_claim_on_images_asks_for_data_unless_it_is_the_smoke_size(
  monkeypatch, capsys
):
  claim = claims.Claim('images_claim', 'Images', 'A paper', 'A sentence.')
  asked = []

  def run(size, data_dir):
    asked.append((size, data_dir))
    return claims.Outcome('reproduced', 'All.', [{'a': 1}], 'None.')

  def start(*arguments):
    monkeypatch.setattr('sys.argv', ['images_claim', *arguments])
    claims.main(claim, run, takes_data=True)

  start('--size=smoke')
  start('--size=full', '--data_dir=somewhere')
  assert asked == [('smoke', None), ('full', 'somewhere')]
  with pytest.raises(SystemExit):
    start()
  assert claims.FETCH in capsys.readouterr().err
  assert len(asked) == 2
