"""asyncio around the protocol core."""
