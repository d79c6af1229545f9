#!/home/you/venv/bin/python
# app:app, started by Apache's mod_fcgid. Made by: simple-fastcgi config apache-fcgid
# It has to be executable (chmod 755). Touch it, or a file restart.txt beside it, after a change of the code.
import sys

sys.path.insert(0, "/home/you/guestbook")

from simple_fastcgi import serve

# mod_fcgid gives a process one request at a time, for which one thread is enough.
serve("app:app", threads=1, reload_on_touch=True)
