"""How often a model is passed through, read from the program of a step."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
from jax.extend.core import Literal, Primitive
from jax.interpreters import ad, batching, mlir
import jax.numpy as jnp

Outputs = TypeVar('Outputs')


class Passes(NamedTuple):
  """Rows that pass through a model, see `count_passes`.

  Attributes:
    forward: rows, forwards; a tangent (`jax.jvp`) counts as a pass of its own.
    backward: rows, backwards.
    open_loops: the loops with a pass inside whose number of turns is not known
      before they run. One turn of each is counted.
  """

  forward: int = 0
  backward: int = 0
  open_loops: int = 0


def mark_pass(outputs: Outputs, rows: int) -> Outputs:
  """Marks the outputs of a model, so that `count_passes` finds the call.

  The identity: it leaves nothing in the compiled program. The learner's own
  `apply_fn` is marked by `lrcl.training.step_ledger`; a method that calls a
  model of its own marks what comes out of it.

  Args:
    outputs: a tree with at least one array of floats; the others are left out.
    rows: the rows that went in. Under `vmap` they are multiplied by its size.

  Returns:
    `outputs`.

  Raises:
    ValueError: if there is no array of floats.

  Example:
    >>> model = lambda params, x: mark_pass(x @ params, rows=x.shape[0])
    >>> loss = lambda params, x: model(params, x).sum()
    >>> count_passes(jax.grad(loss), jnp.ones((3, 1)), jnp.ones((8, 3)))
    Passes(forward=8, backward=8, open_loops=0)
  """
  leaves, structure = jax.tree.flatten(outputs)
  floats = [i for i, x in enumerate(leaves) if _is_float(x)]
  if not floats:
    raise ValueError(
      'mark_pass: outputs has no array of floats; a pass without one cannot be '
      'told from others.'
    )
  marked = _pass_p.bind(
    *[leaves[i] for i in floats], rows=int(rows), kind='forward'
  )
  for i, leaf in zip(floats, marked, strict=True):
    leaves[i] = leaf
  return structure.unflatten(leaves)


def count_passes(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Passes:
  """Counts the rows that `fn` sends through a model, without running it.

  It traces `fn` and reads the program: a loop counts as often as it turns
  (`scan`, `map`, a `fori_loop` between numbers), and `vmap` as often as it is
  wide. What can be known only at run time is counted so:

  * of the branches of a `cond`, the dearest, with a pass backwards as two
    forwards: a step that does something every tenth time costs what it costs
    then; and so with a `fori_loop` from 0 to a bool as an int;
  * of a `while_loop`, or any other `fori_loop` between arrays, one turn, and it
    is among `open_loops`.

  Passes that the compiler may share or leave out are counted as written.

  Args:
    fn: any function that JAX can trace; the model inside is marked by
      `mark_pass`.
    *args: arrays or `jax.ShapeDtypeStruct`s, of which only shapes are read.
    **kwargs: the same.

  Returns:
    The rows, as ints.

  Example:
    >>> def fn(x):
    ...   turn = lambda _, x: mark_pass(x + 1, rows=2)
    ...   return jax.lax.fori_loop(0, 5, turn, x)
    >>> count_passes(fn, jnp.zeros(2)).forward
    10
  """
  return _count(jax.make_jaxpr(fn)(*args, **kwargs))


def _count(jaxpr: Any) -> Passes:
  """Of a program, closed or not."""
  total, made_by = Passes(), {}
  for eqn in getattr(jaxpr, 'jaxpr', jaxpr).eqns:
    total = _add(total, _count_equation(eqn, made_by))
    made_by |= dict.fromkeys(eqn.outvars, eqn)
  return total


def _count_equation(eqn: Any, made_by: dict[Any, Any]) -> Passes:
  if eqn.primitive is _pass_p:
    rows, back = eqn.params['rows'], eqn.params['kind'] == 'backward'
    return Passes(backward=rows) if back else Passes(forward=rows)
  name, inner = eqn.primitive.name, [_count(j) for j in _programs(eqn.params)]
  if name == 'cond':
    return max(inner, key=lambda p: p.forward + 2 * p.backward)
  total = Passes()
  for passes in inner:
    total = _add(total, passes)
  if name == 'scan':
    turns = eqn.params['length']
    return Passes(
      turns * total.forward, turns * total.backward, total.open_loops
    )
  if (
    name == 'while'
    and total != Passes()
    and not _turns_at_most_once(eqn, made_by)
  ):
    return total._replace(open_loops=total.open_loops + 1)
  return total


def _turns_at_most_once(eqn: Any, made_by: dict[Any, Any]) -> bool:
  """Whether a loop goes from 0 to a flag: it is a `cond` that is written so."""
  carried = len(eqn.outvars)
  test, start = eqn.params['cond_jaxpr'].jaxpr, eqn.invars[-carried:][:2]
  names = [e.primitive.name for e in test.eqns]
  if names != ['lt'] or test.eqns[0].invars != test.invars[-carried:][:2]:
    return False
  first, end = start
  if not isinstance(first, Literal) or first.val != 0:
    return False
  made = None if isinstance(end, Literal) else made_by.get(end)
  if made is None or made.primitive.name != 'convert_element_type':
    return False
  return made.invars[0].aval.dtype == bool


def _programs(params: Any) -> list[Any]:
  """The programs among the parameters of an equation."""
  values = []
  for value in params.values():
    values += value if isinstance(value, list | tuple) else [value]
  return [x for x in values if hasattr(getattr(x, 'jaxpr', x), 'eqns')]


def _add(a: Passes, b: Passes) -> Passes:
  return Passes(*[x + y for x, y in zip(a, b, strict=True)])


def _is_float(x: Any) -> bool:
  return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


# The mark: an identity that differentiation turns into one of another kind.
_pass_p = Primitive('lrcl_pass')
_pass_p.multiple_results = True
_pass_p.def_impl(lambda *xs, **_: list(xs))
_pass_p.def_abstract_eval(lambda *avals, **_: list(avals))
mlir.register_lowering(_pass_p, lambda _, *xs, **__: xs)


def _jvp(
  primals: Sequence[Any], tangents: Sequence[Any], *, rows: int, kind: str
) -> tuple[Any, Any]:
  out = _pass_p.bind(*primals, rows=rows, kind=kind)
  if all(isinstance(t, ad.Zero) for t in tangents):
    return out, list(tangents)
  moved = [ad.instantiate_zeros(t) for t in tangents]
  kind = 'tangent' if kind == 'forward' else kind
  return out, _pass_p.bind(*moved, rows=rows, kind=kind)


def _transpose(
  cotangents: Sequence[Any], *args: Any, rows: int, kind: str
) -> list[Any]:
  if not all(isinstance(ct, ad.Zero) for ct in cotangents):
    cotangents = [ad.instantiate_zeros(ct) for ct in cotangents]
    turned = 'tangent' if kind == 'backward' else 'backward'
    cotangents = _pass_p.bind(*cotangents, rows=rows, kind=turned)
  wanted = [ad.is_undefined_primal(x) for x in args]
  return [c if w else None for c, w in zip(cotangents, wanted, strict=True)]


def _batch(
  args: Sequence[Any], dims: Sequence[Any], *, rows: int, kind: str
) -> tuple[Any, Any]:
  sizes = [x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None]
  return _pass_p.bind(*args, rows=rows * sizes[0], kind=kind), list(dims)


ad.primitive_jvps[_pass_p] = _jvp
ad.primitive_transposes[_pass_p] = _transpose
batching.primitive_batchers[_pass_p] = _batch
