"""A stand-in for TDengine: as much of taosAdapter's WebSocket protocol and of TDengine's SQL as this demo uses.

It is not TDengine. What it answers is held against recordings of TDengine 3.3.6.6; everything else is refused.
"""
