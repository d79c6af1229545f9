"""What asks the contestants: through nginx, and straight at their sockets."""
