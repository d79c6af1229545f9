"""What a browser shows while there is no application to answer."""

from __future__ import annotations

from html import escape

WAIT_HEADER = b"x-simple-fastcgi-dev"
"""A request with it is answered once the application has been started anew."""

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1d2733; --quiet: #5a6775; --line: #dfe4ea;
  --bad: #b3261e; }}
@media (prefers-color-scheme: dark) {{ :root {{ --page: #12171d; --card: #1a2129; --ink: #e6ebf0; --quiet: #9aa7b4;
  --line: #2c3641; --bad: #ff8f86; }} }}
body {{ margin: 0 auto; max-width: 64rem; padding: 2rem 1.25rem; background: var(--page); color: var(--ink);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif; }}
h1 {{ font-size: 1.5rem; line-height: 1.25; }}
p {{ color: var(--quiet); }}
pre {{ padding: 1rem 1.25rem; overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-left: .25rem solid var(--bad); border-radius: .5rem; line-height: 1.45; font-size: .875rem;
  font-family: ui-monospace, "Cascadia Code", Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
</style>
</head>
<body>
<h1>{title}</h1>
<pre>{text}</pre>
<p>{hint}</p>
<script>
const again = () => fetch(location.href, {{ method: "HEAD", cache: "no-store", headers: {{ "{header}": "wait" }} }})
  .then(() => location.reload(), () => setTimeout(again, 1000));
again();
</script>
</body>
</html>
"""
_HIDDEN = "The traceback is in the terminal: it is shown here only under localhost or an address of this machine alone."


def failure_page(title: str, text: str, *, hint: str, html: bool, shown: bool) -> tuple[bytes, bytes]:
    """Content type and body. `shown`: whether whoever reads this may see `text`."""
    text = text.strip() if shown else _HIDDEN
    if not html:
        return b"text/plain; charset=utf-8", f"{title}\n\n{text}\n\n{hint}\n".encode("utf-8", "backslashreplace")
    page = _PAGE.format(title=escape(title), text=escape(text), hint=escape(hint), header=WAIT_HEADER.decode())
    return b"text/html; charset=utf-8", page.encode("utf-8", "backslashreplace")
