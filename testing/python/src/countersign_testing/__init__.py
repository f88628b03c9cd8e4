"""Starts Countersign in test mode, with phones that tests control. The README describes the pytest plugin."""

from .account import Captures, Challenge, Countersign, Device
from .server import CountersignError, RequestError, Server

__all__ = ["Captures", "Challenge", "Countersign", "CountersignError", "Device", "RequestError", "Server"]
