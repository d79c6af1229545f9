"""What an operator can see of a running server: every request under way, counts of all that were, and a line for each.

Servers report to a `Monitor`, if they are given one; without it none of this costs anything.
"""

from __future__ import annotations
