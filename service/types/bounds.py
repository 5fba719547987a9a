"""How large a request may be: far above what anyone needs.

What it costs before it is admitted is taken from all others, and stays small so.
"""

MAX_REQUEST_ID = 128
"""In characters."""
MAX_CHOICES = 128
MAX_TOP_LOGPROBS = 20
MAX_SALT = 256
"""In characters."""
MAX_MESSAGES = 4096
MAX_PARTS = 16_384
"""Parts and tool calls of all messages together."""
MAX_TOOLS = 1024
MAX_JSON = 256 << 10
"""Characters of one schema or of one call's arguments."""
MAX_PATTERN = 64 << 10
"""Characters of a regular expression or a grammar."""
MAX_OPTIONS = 4096
"""Texts to choose from."""
MAX_OPTION = 4096
"""Characters of one of them."""
MAX_KWARGS = 64 << 10
"""Bytes of all variables for the template."""
MAX_STOP_TOKENS = 1024
MAX_BIASED_TOKENS = 16_384
MAX_DETOKENIZED = 1 << 20
"""Token ids in one call."""
MAX_STOP_STRINGS = 16
MAX_STOP_LENGTH = 256
"""In characters."""
