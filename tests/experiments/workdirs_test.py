"""A work directory: whose it is, and what a kill may leave in it."""

import json

import pytest

from experiments import workdirs

CONFIG = {'a': 1, 'only': []}


@pytest.mark.parametrize('left', [(), ('lock',), ('lock', 'config.json.part')])
def test_a_kill_before_the_configuration_is_written_is_no_harm(tmp_path, left):
  for name in left:
    (tmp_path / name).write_text('{"a"')
  with workdirs.claim(CONFIG, str(tmp_path)) as root:
    assert json.loads((root / 'config.json').read_text()) == {'a': 1}
  workdirs.check({**CONFIG, 'only': ['x']}, str(tmp_path))
  with pytest.raises(ValueError, match='its a is 1, now 2'):
    workdirs.check({'a': 2}, str(tmp_path))


def test_two_processes_do_not_share_a_directory(tmp_path):
  with workdirs.claim(CONFIG, str(tmp_path)):
    with pytest.raises(ValueError, match='another process trains'):
      with workdirs.claim(CONFIG, str(tmp_path)):
        pass
