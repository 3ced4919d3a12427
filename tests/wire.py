"""Protobuf by hand, for messages that no library makes."""


def encode(*parts):
    """A protobuf message of (number, int or bytes), as it could be made by hand."""
    message = []
    for number, value in parts:
        length = value if isinstance(value, int) else len(value)
        for n in (number << 3 | (0 if isinstance(value, int) else 2), length):
            while n > 127:
                message.append(bytes([n & 127 | 128]))
                n >>= 7
            message.append(bytes([n]))
        if not isinstance(value, int):
            message.append(value)
    return b"".join(message)
