"""How model families write tool calls: reading them as they form, and grammars that ask for them."""
