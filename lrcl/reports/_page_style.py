"""The page's style sheet."""

from lrcl.reports._style import DARK, LIGHT

RULES = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--surface); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
main { max-width: 1140px; margin: 0 auto; padding: 32px 20px 80px; }
header { margin-bottom: 20px; }
h1 { font-size: 26px; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 44px 0 6px; }
h3 { font-size: 14px; margin: 18px 0 0; }
.note { color: var(--muted); font-size: 13px; margin: 4px 0 10px;
  max-width: 80ch; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; width: 100%;
  font-variant-numeric: tabular-nums; }
th { font-weight: 600; }
thead th { color: var(--muted); font-size: 12.5px; text-align: right;
  padding: 2px 8px; vertical-align: bottom; }
thead tr:last-child th { padding-bottom: 6px; }
thead th[colspan] { text-align: center; }
thead th:first-child, tbody th { text-align: left; }
thead tr + tr th:first-child { text-align: right; }
tbody th, td { padding: 6px 8px; border-top: 1px solid var(--line);
  white-space: nowrap; }
td { text-align: right; }
.half, .none { color: var(--muted); }
.half { font-size: 12px; }
.reference th { font-weight: 400; }
.reference th, .reference td { color: var(--muted); }
.best th, .best td { background:
  color-mix(in srgb, var(--blue) 9%, transparent); }
.tag { border: 1px solid var(--line); border-radius: 9px; padding: 0 7px;
  margin-left: 4px; font-size: 11px; color: var(--muted); }
.setup td { text-align: left; }
.setup td:last-child { white-space: normal; overflow-wrap: anywhere; }
.setup thead th { text-align: left; }
code { font: 12px ui-monospace, SFMono-Regular, Menlo, monospace; }
.findings { padding-left: 20px; margin: 6px 0; }
.findings li { margin: 4px 0; }
details { border-top: 1px solid var(--line); padding: 8px 0; }
summary { cursor: pointer; font-weight: 600; font-size: 14px; }
figure { margin: 10px 0; overflow-x: auto; }
svg { display: block; width: 100%; min-width: 620px; height: auto; }
svg text { font-family: system-ui, -apple-system, 'Segoe UI', Roboto,
  sans-serif !important; }
.grid { display: grid; gap: 8px 32px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr)); }
.grid svg { min-width: 0; }
dt { font-weight: 600; margin-top: 8px; }
dd { margin: 0; color: var(--muted); max-width: 80ch; }
@media print { details { break-inside: avoid; } }
"""


def css() -> str:
  """Rules, and the colours in both lights."""
  return (
    f':root {{ color-scheme: light dark; {_colors(LIGHT)} }}\n'
    f'@media (prefers-color-scheme: dark) {{ :root {{ {_colors(DARK)} }} }}'
    f'{RULES}'
  )


def _colors(palette: dict[str, str]) -> str:
  return ' '.join(f'--{name}: {value};' for name, value in palette.items())
