"""Applications in processes of their own whose coverage counts: what begins anew does so nowhere else."""

from __future__ import annotations

from tests.webservers.children import App


class Served(App):
    """An application, or any other program."""

    measured = True
